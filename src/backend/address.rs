//! Addresses of clusters: `rocketmq://host:port;host:port?access_key=..&secret_key_env=..&namespace=..` and `memory://name`.

use std::{fmt, str::FromStr};

use crate::error::{Error, ErrorKind, Result};

/// The longest address, in bytes.
pub const MAX_ADDRESS_BYTES: usize = 4096;
/// The most name servers in one address.
pub const MAX_NAME_SERVERS: usize = 32;

const OPERATION: &str = "cluster address";

/// Where a cluster is, and how to sign in. No secret is ever part of it: an address names the environment variable that holds one.
///
/// `Display` writes what [`FromStr`] reads; `Debug` masks the access key.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// `memory://name`: an embedded cluster of this process; the same name is the same cluster.
    Memory(MemoryAddress),
    /// `rocketmq://host:port;host:port`: the name servers of an Apache RocketMQ cluster.
    Rocketmq(RocketmqAddress),
}

/// The part of a `memory://` address after the scheme.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct MemoryAddress {
    /// 1 to 127 letters, digits, `.`, `_` or `-`.
    pub name: String,
    /// `?auto_create=true`: a send or a subscription makes the topic it names. Counts for whoever opens the cluster first. Default: false.
    pub auto_create: bool,
}

/// The part of a `rocketmq://` address after the scheme.
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct RocketmqAddress {
    /// `host:port`, 1 to [`MAX_NAME_SERVERS`], in the order given, none twice. An IPv6 host stands in brackets.
    pub name_servers: Vec<String>,
    /// The user; comes together with `secret_key_env`.
    pub access_key: Option<String>,
    /// The environment variable that holds the user's secret key.
    pub secret_key_env: Option<String>,
    /// The namespace that topics and groups are in: the brokers' name of a topic `orders` is then `namespace%orders`.
    pub namespace: Option<String>,
}

impl Address {
    /// "memory" or "rocketmq".
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Address::Memory(_) => "memory",
            Address::Rocketmq(_) => "rocketmq",
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidConfig`] says which part is wrong. Values of the query are never repeated in it.
    fn from_str(text: &str) -> Result<Self> {
        if text.len() > MAX_ADDRESS_BYTES {
            return Err(invalid(format!(
                "has {} bytes; at most {MAX_ADDRESS_BYTES} are allowed",
                text.len()
            )));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(invalid(
                "has no scheme: write rocketmq://host:port or memory://name",
            ));
        };
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        if place.contains('@') {
            return Err(invalid(
                "has a user or a password before a server: give credentials by keys or a file",
            ));
        }
        let query = parse_query(query)?;
        match scheme {
            "memory" => parse_memory(place, &query).map(Address::Memory),
            "rocketmq" => parse_rocketmq(place, query).map(Address::Rocketmq),
            _ => Err(invalid(format!(
                "the scheme {scheme:?} is not known: use rocketmq or memory"
            ))),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Memory(MemoryAddress { name, auto_create }) => {
                let query = if *auto_create {
                    "?auto_create=true"
                } else {
                    ""
                };
                write!(f, "memory://{name}{query}")
            }
            Address::Rocketmq(address) => {
                write!(f, "rocketmq://{}", address.name_servers.join(";"))?;
                let keys = [
                    ("access_key", &address.access_key),
                    ("secret_key_env", &address.secret_key_env),
                    ("namespace", &address.namespace),
                ];
                let mut separator = '?';
                for (key, value) in keys {
                    if let Some(value) = value {
                        write!(f, "{separator}{key}={}", Escaped(value))?;
                        separator = '&';
                    }
                }
                Ok(())
            }
        }
    }
}

impl fmt::Debug for RocketmqAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RocketmqAddress")
            .field("name_servers", &self.name_servers)
            .field("access_key", &self.access_key.as_ref().map(|_| "***"))
            .field("secret_key_env", &self.secret_key_env)
            .field("namespace", &self.namespace)
            .finish()
    }
}

fn parse_memory(place: &str, query: &[(&str, String)]) -> Result<MemoryAddress> {
    let auto_create = match query {
        [] => false,
        [("auto_create", value)] if value == "true" || value == "false" => value == "true",
        _ => {
            return Err(invalid(
                "the query of memory:// must read auto_create=true or auto_create=false",
            ));
        }
    };
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if place.is_empty() || place.len() > 127 || !place.chars().all(allowed) {
        return Err(invalid(format!(
            "the name {:?} must be 1 to 127 letters, digits, '.', '_' or '-'",
            shortened(place)
        )));
    }
    Ok(MemoryAddress {
        name: place.into(),
        auto_create,
    })
}

fn parse_rocketmq(place: &str, query: Vec<(&str, String)>) -> Result<RocketmqAddress> {
    let mut name_servers: Vec<String> = Vec::new();
    for server in place.split(';') {
        check_server(server)?;
        if name_servers.iter().any(|known| known == server) {
            return Err(invalid(format!("names the server {server:?} twice")));
        }
        if name_servers.len() == MAX_NAME_SERVERS {
            return Err(invalid(format!(
                "names more than {MAX_NAME_SERVERS} servers"
            )));
        }
        name_servers.push(server.into());
    }
    let mut address = RocketmqAddress {
        name_servers,
        access_key: None,
        secret_key_env: None,
        namespace: None,
    };
    for (key, value) in query {
        let place = match key {
            "access_key" => &mut address.access_key,
            "secret_key_env" => &mut address.secret_key_env,
            "namespace" => &mut address.namespace,
            "secret_key" => {
                return Err(invalid(
                    "must not contain a secret: put it into an environment variable and name that with secret_key_env",
                ));
            }
            _ => {
                return Err(invalid(format!(
                    "the query key {:?} is not known; rocketmq:// knows access_key, secret_key_env and namespace",
                    shortened(key)
                )));
            }
        };
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(invalid(format!(
                "{key} is empty or has a control character"
            )));
        }
        if place.replace(value).is_some() {
            return Err(invalid(format!("gives {key} twice")));
        }
    }
    if let Some(namespace) = &address.namespace {
        check_namespace(namespace)?;
    }
    if address.access_key.is_some() != address.secret_key_env.is_some() {
        return Err(invalid(
            "access_key and secret_key_env come together or not at all",
        ));
    }
    Ok(address)
}

/// The rule for names of topics (apache/rocketmq `TopicValidator.java`), without the separator; room is left for the topic's own.
fn check_namespace(namespace: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'|' | b'_' | b'-');
    if namespace.len() <= 100 && namespace.bytes().all(good) {
        return Ok(());
    }
    Err(invalid(
        "has a namespace that is not 1 to 100 letters, digits, '|', '_' or '-'",
    ))
}

fn check_server(server: &str) -> Result<()> {
    let wrong = |why: &str| {
        Err(invalid(format!(
            "the server {:?} {why}: write host:port",
            shortened(server)
        )))
    };
    let Some((host, port)) = server.rsplit_once(':') else {
        return wrong("has no port");
    };
    // A leading '+' would parse as a number.
    if !port.bytes().all(|byte| byte.is_ascii_digit())
        || !port.parse::<u16>().is_ok_and(|port| port > 0)
    {
        return wrong("has a port that is not a number from 1 to 65535");
    }
    let host_is_good = match host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inside) => inside.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host.len() <= 253
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        }
    };
    if !host_is_good {
        return wrong("has a host that is neither a name nor an address");
    }
    Ok(())
}

fn parse_query(query: Option<&str>) -> Result<Vec<(&str, String)>> {
    let Some(query) = query else {
        return Ok(Vec::new());
    };
    query
        .split('&')
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key, unescape(key, value)?)),
            _ => Err(invalid("the query after '?' must read key=value&key=value")),
        })
        .collect()
}

fn unescape(key: &str, value: &str) -> Result<String> {
    let wrong = || {
        invalid(format!(
            "the value of {:?} has a '%' that is not the start of %XX, or is not UTF-8",
            shortened(key)
        ))
    };
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let high = digit(rest.next()).ok_or_else(wrong)?;
            let low = digit(rest.next()).ok_or_else(wrong)?;
            bytes.push((high * 16 + low) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// Writes a value so that [`unescape`] reads it back.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'~') {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

/// Hostile input must not fill the log.
fn shortened(text: &str) -> &str {
    let end = text
        .char_indices()
        .nth(80)
        .map_or(text.len(), |(index, _)| index);
    &text[..end]
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, OPERATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_are_read_and_written_back_unchanged() {
        for text in [
            "memory://source",
            "memory://source?auto_create=true",
            "memory://a.b_c-9",
            "rocketmq://127.0.0.1:9876",
            "rocketmq://ns-1.example.org:9876;ns-2.example.org:9876",
            "rocketmq://[::1]:9876",
            "rocketmq://ns:1?namespace=TEAM_1",
            "rocketmq://ns:1?access_key=reader&secret_key_env=MQ_SECRET&namespace=TEAM_1",
            "rocketmq://ns:1?access_key=reader&secret_key_env=MQ_SECRET",
            "rocketmq://ns:65535?access_key=a%26b%3D%C3%BC&secret_key_env=X",
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn escaped_values_are_unescaped() {
        let address: Address = "rocketmq://ns:1?secret_key_env=X&access_key=a%26b%3D"
            .parse()
            .unwrap();
        let Address::Rocketmq(address) = address else {
            panic!("not a rocketmq address: {address:?}");
        };
        assert_eq!(address.access_key.as_deref(), Some("a&b="));
        assert_eq!(address.secret_key_env.as_deref(), Some("X"));
        assert_eq!(address.name_servers, ["ns:1"]);
    }

    #[test]
    fn bad_addresses_are_invalid_config() {
        let long = format!("memory://{}", "a".repeat(MAX_ADDRESS_BYTES));
        let many = (0..=MAX_NAME_SERVERS)
            .map(|n| format!("ns{n}:1"))
            .collect::<Vec<_>>()
            .join(";");
        let many = format!("rocketmq://{many}");
        for text in [
            "",
            "localhost:9876",
            "kafka://localhost:9092",
            "Memory://a",
            "memory://",
            "memory://a/b",
            "memory://a b",
            "memory://a?queues=4",
            "memory://a?auto_create=yes",
            "memory://a?auto_create=true&auto_create=true",
            "memory://a?",
            "rocketmq://",
            "rocketmq://localhost",
            "rocketmq://localhost:",
            "rocketmq://localhost:0",
            "rocketmq://localhost:+1",
            "rocketmq://localhost:65536",
            "rocketmq://:9876",
            "rocketmq://a:1;",
            "rocketmq://a:1;a:1",
            "rocketmq://a:1,b:1",
            "rocketmq://::1:9876",
            "rocketmq://[::g]:9876",
            "rocketmq://a:1?",
            "rocketmq://a:1?access_key",
            "rocketmq://a:1?access_key=a",
            "rocketmq://a:1?access_key=&secret_key_env=B",
            "rocketmq://a:1?access_key=a&access_key=b&secret_key_env=C",
            "rocketmq://a:1?access_key=%4&secret_key_env=B",
            "rocketmq://a:1?access_key=%FF&secret_key_env=B",
            "rocketmq://a:1?acess_key=a&secret_key_env=B",
            "rocketmq://a:1?secret_key=hush",
            "rocketmq://a:1?namespace=",
            "rocketmq://a:1?namespace=a%25b",
            "rocketmq://a:1?namespace=a&namespace=a",
            &long,
            &many,
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let address: Address = "rocketmq://a:1?access_key=hush&secret_key_env=B"
            .parse()
            .unwrap();
        assert!(!format!("{address:?}").contains("hush"));
        let error = "rocketmq://a:1?secret_key=hush"
            .parse::<Address>()
            .unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hush"));
        for text in [
            "rocketmq://a:1?access_key=hush",
            "rocketmq://hush:hush@a:1",
            "rocketmq://user:hush;more@a:1",
            "memory://hush:hush@a",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hush"));
        }
    }
}
