//! Namespaces: prefixes of names, by which several tenants share a cluster (apache/rocketmq `NamespaceUtil.java`).

use std::borrow::Cow;

use crate::{
    error::{Error, ErrorKind, Result},
    message::RETRY_PREFIX,
};

/// `NamespaceUtil.NAMESPACE_SEPARATOR`.
const SEPARATOR: char = '%';
/// `MixAll.DLQ_GROUP_TOPIC_PREFIX`.
const DEAD_LETTER_PREFIX: &str = "%DLQ%";
/// A broker's name of a topic has 127 bytes; something must be left for the topic's own.
const MAX_BYTES: usize = 100;

/// A namespace: on the brokers, a topic or group `name` is `namespace%name`, a retry topic `%RETRY%namespace%group`, a dead-letter topic
/// `%DLQ%namespace%group`. The default is none: names are the brokers' own.
///
/// The calls of this crate take and return the brokers' names.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Namespace(Option<String>);

impl Namespace {
    /// A namespace.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] unless it is 1 to 100 letters, digits, `|`, `-` or `_`.
    pub fn new(name: impl Into<String>) -> Result<Namespace> {
        let name = name.into();
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"|-_".contains(&byte);
        if name.is_empty() || name.len() > MAX_BYTES || !name.bytes().all(good) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the namespace {name:?} should have 1 to {MAX_BYTES} letters, digits or the characters | - _"
                ),
            ));
        }
        Ok(Namespace(Some(name)))
    }

    /// The brokers' name of a topic or a group. One that is in the namespace already stays as it is.
    #[must_use]
    pub fn wrap<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let (prefix, bare) = split(name);
        match &self.0 {
            Some(namespace) if self.inside(bare).is_none() => {
                format!("{prefix}{namespace}{SEPARATOR}{bare}").into()
            }
            _ => name.into(),
        }
    }

    /// The name within the namespace; `None` for one that is not in it.
    #[must_use]
    pub fn unwrap<'a>(&self, name: &'a str) -> Option<Cow<'a, str>> {
        if self.0.is_none() {
            return Some(name.into());
        }
        let (prefix, rest) = split(name);
        let bare = self.inside(rest)?;
        Some(match prefix {
            "" => bare.into(),
            prefix => format!("{prefix}{bare}").into(),
        })
    }

    fn inside<'a>(&self, name: &'a str) -> Option<&'a str> {
        let namespace = self.0.as_deref()?;
        name.strip_prefix(namespace)?.strip_prefix(SEPARATOR)
    }
}

/// The prefix of a retry or dead-letter topic, and the rest.
fn split(name: &str) -> (&str, &str) {
    let prefixes = [RETRY_PREFIX, DEAD_LETTER_PREFIX];
    let prefix = prefixes.into_iter().find(|prefix| name.starts_with(prefix));
    name.split_at(prefix.map_or(0, str::len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_wrapped_and_unwrapped_as_java_does() {
        let namespace = Namespace::new("NS").unwrap();
        for (bare, wrapped) in [
            ("orders", "NS%orders"),
            ("%RETRY%billing", "%RETRY%NS%billing"),
            ("%DLQ%billing", "%DLQ%NS%billing"),
            ("NSorders", "NS%NSorders"),
            ("OTHER%orders", "NS%OTHER%orders"),
        ] {
            assert_eq!(namespace.wrap(bare), wrapped);
            assert_eq!(namespace.wrap(wrapped), wrapped);
            assert_eq!(namespace.unwrap(wrapped).as_deref(), Some(bare));
        }
        for outside in ["orders", "OTHER%orders", "%RETRY%billing", "NSorders"] {
            assert_eq!(namespace.unwrap(outside), None);
        }
    }

    #[test]
    fn without_a_namespace_names_stay_as_they_are() {
        let none = Namespace::default();
        for name in ["orders", "NS%orders", "%RETRY%g"] {
            assert_eq!(none.wrap(name), name);
            assert_eq!(none.unwrap(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn namespaces_that_no_name_may_have_are_refused() {
        for name in ["", "a%b", "a b", "中", &"a".repeat(101)] {
            let error = Namespace::new(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        }
    }
}
