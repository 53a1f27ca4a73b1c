//! Accounts of 4.9, kept by each broker in `plain_acl.yml` (apache/rocketmq 4.9 `PlainAccessConfig.java`).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer};

use super::Admin;
use crate::{codes::request, error::Result, frame::Request};

/// An account. `Debug` does not show its secret key.
#[derive(Clone, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PlainAccount {
    /// At least 7 characters, as the secret key.
    pub access_key: String,
    /// Brokers tell it to everybody who signs.
    pub secret_key: Option<String>,
    /// Whose requests need no signature: an address, or a pattern of some.
    pub white_remote_address: Option<String>,
    /// Whether it may make and delete topics and groups; without it, it may still look at everything.
    pub admin: bool,
    /// `PUB`, `SUB`, `PUB|SUB` or `DENY`, for topics that are not named.
    pub default_topic_perm: Option<String>,
    /// The same for groups.
    pub default_group_perm: Option<String>,
    /// `topic=PUB|SUB` each.
    #[serde(deserialize_with = "list")]
    pub topic_perms: Vec<String>,
    /// `group=SUB` each.
    #[serde(deserialize_with = "list")]
    pub group_perms: Vec<String>,
}

/// All accounts of a broker.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct PlainAcl {
    /// The accounts.
    #[serde(rename = "plainAccessConfigs", deserialize_with = "list")]
    pub accounts: Vec<PlainAccount>,
    /// Addresses whose requests need no signature.
    #[serde(rename = "globalWhiteAddrs", deserialize_with = "list")]
    pub white_addresses: Vec<String>,
}

impl PlainAccount {
    /// An account that may do nothing yet.
    #[must_use]
    pub fn new(access_key: &str, secret_key: &str) -> Self {
        PlainAccount {
            access_key: access_key.to_owned(),
            secret_key: Some(secret_key.to_owned()),
            ..PlainAccount::default()
        }
    }
}

impl fmt::Debug for PlainAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlainAccount")
            .field("access_key", &self.access_key)
            .field("secret_key", &self.secret_key.as_ref().map(|_| "***"))
            .field("white_remote_address", &self.white_remote_address)
            .field("admin", &self.admin)
            .field("default_topic_perm", &self.default_topic_perm)
            .field("default_group_perm", &self.default_group_perm)
            .field("topic_perms", &self.topic_perms)
            .field("group_perms", &self.group_perms)
            .finish()
    }
}

/// Brokers write `null` for an empty one.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Admin {
    /// The accounts that the broker at `address` knows; `None` when it has no access control of this kind (`aclEnable`), as on 5.3 and later.
    ///
    /// # Errors
    /// As [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn plain_acl(&self, address: &Arc<str>) -> Result<Option<PlainAcl>> {
        // A broker without access control never answers the question itself.
        let request = Request::new(request::GET_BROKER_CONFIG);
        let config = self
            .client
            .call(address, "broker configuration", request)
            .await?;
        let config = String::from_utf8_lossy(&config.body);
        if config.lines().any(|line| line.trim() == "aclEnable=false") {
            return Ok(None);
        }
        let request = Request::new(request::GET_BROKER_CLUSTER_ACL_CONFIG);
        self.read(address, "list of accounts", request)
            .await
            .map(Some)
    }

    /// The versions of the files of accounts on the 4.9 broker at `address`, as it writes them: another text after each change.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) from a broker without access control, which does not answer; as [`Self::plain_acl`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn plain_acl_version(&self, address: &Arc<str>) -> Result<String> {
        let request = Request::new(request::GET_BROKER_CLUSTER_ACL_INFO);
        let answer = self
            .client
            .call(address, "version of accounts", request)
            .await?;
        let named = ["allAclFileVersion", "version"]
            .iter()
            .find_map(|name| answer.fields.get(name));
        Ok(named.unwrap_or_default().to_owned())
    }

    /// Creates or changes an account on every master. What is `None` stays as it is; lists and `admin` are replaced.
    ///
    /// # Errors
    /// As [`Self::plain_acl`]. A broker without access control does not answer: [`ErrorKind::Timeout`](crate::ErrorKind::Timeout).
    ///
    /// # Cancellation
    /// The account may be changed on some brokers. Repeating the call is safe.
    pub async fn put_plain_account(&self, account: &PlainAccount) -> Result<()> {
        let operation = format!("change of account {}", account.access_key);
        self.change_all(&operation, || {
            let optional = [
                ("secretKey", &account.secret_key),
                ("whiteRemoteAddress", &account.white_remote_address),
                ("defaultTopicPerm", &account.default_topic_perm),
                ("defaultGroupPerm", &account.default_group_perm),
            ];
            let request = Request::new(request::UPDATE_AND_CREATE_ACL_CONFIG)
                .text("accessKey", &account.access_key)
                .field("admin", account.admin)
                .text("topicPerms", &account.topic_perms.join(","))
                .text("groupPerms", &account.group_perms.join(","));
            optional
                .iter()
                .fold(request, |request, (name, value)| match value {
                    Some(value) => request.text(name, value),
                    None => request,
                })
        })
        .await
    }

    /// Deletes an account on every master.
    ///
    /// # Errors
    /// As [`Self::put_plain_account`]; an unknown account is one.
    ///
    /// # Cancellation
    /// The account may be gone on some brokers.
    pub async fn delete_plain_account(&self, access_key: &str) -> Result<()> {
        self.change_all(&format!("deletion of account {access_key}"), || {
            Request::new(request::DELETE_ACL_CONFIG).text("accessKey", access_key)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_leaves_out_or_writes_as_null_is_empty() {
        let text = r#"{"globalWhiteAddrs":null,"plainAccessConfigs":[{"accessKey":"reader-01","admin":false,"topicPerms":["t=SUB"],"groupPerms":null}]}"#;
        let acl: PlainAcl = serde_json::from_str(text).unwrap();
        let account = &acl.accounts[0];
        assert_eq!(
            (account.topic_perms.len(), account.group_perms.len()),
            (1, 0)
        );
        assert!(acl.white_addresses.is_empty() && account.secret_key.is_none());
        assert_eq!(
            serde_json::from_str::<PlainAcl>("{}").unwrap(),
            PlainAcl::default()
        );
    }
}
