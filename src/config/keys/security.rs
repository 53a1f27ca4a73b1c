//! The keys of a side's credentials and TLS: the same for both sides.

use super::Key;

macro_rules! side_keys {
    ($side:literal, $place:ident: $($name:literal, $range:literal, $field:ident, $show:expr, $doc:literal $(, $secret:literal)?;)*) => {
        [$(Key {
            name: concat!($side, ".", $name),
            range: $range,
            doc: $doc,
            secret: false $(|| $secret)?,
            set: |config, text| config.$place.set($name, text),
            default: |config| $show(&config.$place.$field),
        }),*]
    };
}

macro_rules! all {
    ($side:literal, $place:ident) => {
        side_keys!($side, $place:
            "credentials_file", "path", credentials_file, super::path,
            "A file of `key = value` lines with the keys below, without the side in front; what it says wins, and its `secret_key` or `secret_key_file` takes the place of either here. Read again when the cluster refuses the credentials, so that they can be replaced.";
            "access_key", "text", access_key, hidden,
            "The user who signs requests (ACL). Without one they are not signed.", true;
            "secret_key", "text", secret_key, hidden,
            "What requests are signed with.", true;
            "secret_key_file", "path", secret_key_file, super::path,
            "A file with the secret key alone. Read again when the cluster refuses it.";
            "security_token", "text", security_token, hidden,
            "The token of a temporary identity (STS), sent and signed along.", true;
            "tls", "`off`, `on` or `insecure`", tls, super::shown,
            "Connections over TLS, to name servers and brokers (cargo feature `tls`). `insecure` looks at no certificate: whoever sits between can read and change everything.";
            "tls_ca_file", "path", tls_ca_file, super::path,
            "Authorities to trust (PEM), instead of the system's.";
            "tls_cert_file", "path", tls_cert_file, super::path,
            "A client certificate with its chain (PEM), where the cluster asks for one; with `tls_key_file`.";
            "tls_key_file", "path", tls_key_file, super::path,
            "The private key of `tls_cert_file` (PEM).";
            "tls_server_name", "host name or IP address", tls_server_name, super::text,
            "The name in the cluster's certificates; without one, the host of each address. Brokers are reached by the address that they register, mostly an IP address.";
        )
    };
}

pub(super) const SOURCE: [Key; 10] = all!("source", source_security);
pub(super) const TARGET: [Key; 10] = all!("target", target_security);

fn hidden(secret: &Option<crate::secret::Secret>) -> Option<String> {
    secret.as_ref().map(|_| "***".to_owned())
}
