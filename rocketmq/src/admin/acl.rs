//! Access control: accounts of 4.9 (`plain_acl.yml`), users and rules of 5.3 and later (ACL 2.0).
//!
//! Brokers keep them each for themselves: reading asks one, changing changes every master.

mod plain;

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

pub use plain::{PlainAccount, PlainAcl};

use super::Admin;
use crate::{
    codes::request,
    error::Result,
    fastjson,
    frame::{Command, Request},
};

/// A user of ACL 2.0 (apache/rocketmq `UserInfo.java`). `Debug` does not show the password.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Its name: the access key of its clients.
    pub username: String,
    /// The secret key of its clients; brokers tell it to administrators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// `Super`, to whom no rule applies, or `Normal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_type: Option<String>,
    /// `enable` or `disable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_status: Option<String>,
}

impl User {
    /// An enabled user to whom rules apply.
    #[must_use]
    pub fn new(username: &str, password: &str) -> Self {
        User {
            username: username.to_owned(),
            password: Some(password.to_owned()),
            user_type: Some("Normal".to_owned()),
            user_status: Some("enable".to_owned()),
        }
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| "***"))
            .field("user_type", &self.user_type)
            .field("user_status", &self.user_status)
            .finish()
    }
}

/// The rules of one user (apache/rocketmq `AclInfo.java`).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acl {
    /// `User:name`.
    pub subject: String,
    /// Its rules, those of its own before defaults.
    #[serde(default)]
    pub policies: Vec<Policy>,
}

/// Rules of one kind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// `Custom` or `Default`.
    pub policy_type: String,
    /// The rules.
    #[serde(default)]
    pub entries: Vec<PolicyEntry>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyEntry {
    /// `Topic:name`, `Group:name` or `Cluster:name`; a `*` at the end stands for any rest, `*` alone for everything.
    pub resource: String,
    /// `Pub`, `Sub`, `Create`, `Update`, `Delete`, `Get`, `List` or `All`.
    #[serde(default)]
    pub actions: Vec<String>,
    /// The addresses from which it applies; none: from any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ips: Option<Vec<String>>,
    /// `Allow` or `Deny`.
    pub decision: String,
}

impl Acl {
    /// Rules that allow a user `actions` on `resource`, each.
    #[must_use]
    pub fn allow(username: &str, rules: &[(&str, &[&str])]) -> Self {
        let entries = rules.iter().map(|(resource, actions)| PolicyEntry {
            resource: (*resource).to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
            source_ips: None,
            decision: "Allow".to_owned(),
        });
        Acl {
            subject: subject(username),
            policies: vec![Policy {
                policy_type: "Custom".to_owned(),
                entries: entries.collect(),
            }],
        }
    }
}

impl Admin {
    /// The users that the broker at `address` knows.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) before 5.3; as [`Client::call`](crate::Client::call).
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn users(&self, address: &Arc<str>) -> Result<Vec<User>> {
        let request = Request::new(request::AUTH_LIST_USER).text("filter", "");
        let answer = self.client.call(address, "list of users", request).await?;
        read_list(&answer, address)
    }

    /// Creates a user on every master.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied) also where it exists; as [`Self::users`].
    ///
    /// # Cancellation
    /// The user may exist on some brokers.
    pub async fn create_user(&self, user: &User) -> Result<()> {
        self.put_user(request::AUTH_CREATE_USER, "creation", user)
            .await
    }

    /// Changes a user's password, type and status on every master, those that are named.
    ///
    /// # Errors
    /// As [`Self::create_user`]; where it does not exist.
    ///
    /// # Cancellation
    /// The user may be changed on some brokers. Repeating the call is safe.
    pub async fn update_user(&self, user: &User) -> Result<()> {
        self.put_user(request::AUTH_UPDATE_USER, "change", user)
            .await
    }

    async fn put_user(&self, code: i32, verb: &str, user: &User) -> Result<()> {
        let name = &user.username;
        let body = json(user);
        self.change_all(&format!("{verb} of user {name}"), || {
            let request = Request::new(code).text("username", name);
            request.body(body.clone())
        })
        .await
    }

    /// Deletes a user, and with it its rules, on every master. An unknown user is no error.
    ///
    /// # Errors
    /// As [`Self::users`].
    ///
    /// # Cancellation
    /// The user may be deleted on some brokers. Repeating the call is safe.
    pub async fn delete_user(&self, username: &str) -> Result<()> {
        self.change_all(&format!("deletion of user {username}"), || {
            Request::new(request::AUTH_DELETE_USER).text("username", username)
        })
        .await
    }

    /// The rules that the broker at `address` knows.
    ///
    /// # Errors
    /// As [`Self::users`].
    ///
    /// # Cancellation
    /// Leaves nothing behind.
    pub async fn acls(&self, address: &Arc<str>) -> Result<Vec<Acl>> {
        let request = Request::new(request::AUTH_LIST_ACL)
            .text("subjectFilter", "")
            .text("resourceFilter", "");
        let answer = self.client.call(address, "list of rules", request).await?;
        read_list(&answer, address)
    }

    /// Adds a user's rules on every master; one for a resource that has one already takes its place.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied) also for an unknown user; as [`Self::users`].
    ///
    /// # Cancellation
    /// The rules may be there on some brokers. Repeating the call is safe.
    pub async fn create_acl(&self, acl: &Acl) -> Result<()> {
        self.put_acl(request::AUTH_CREATE_ACL, acl).await
    }

    /// As [`Self::create_acl`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancellation
    /// As there.
    pub async fn update_acl(&self, acl: &Acl) -> Result<()> {
        self.put_acl(request::AUTH_UPDATE_ACL, acl).await
    }

    async fn put_acl(&self, code: i32, acl: &Acl) -> Result<()> {
        let body = json(acl);
        self.change_all(&format!("change of the rules of {}", acl.subject), || {
            let request = Request::new(code).text("subject", &acl.subject);
            request.body(body.clone())
        })
        .await
    }

    /// Deletes a user's rules for `resource`, or all of them, on every master.
    ///
    /// # Errors
    /// [`ErrorKind::PermissionDenied`](crate::ErrorKind::PermissionDenied) also where there is none; as [`Self::users`].
    ///
    /// # Cancellation
    /// The rules may be gone on some brokers.
    pub async fn delete_acl(&self, username: &str, resource: Option<&str>) -> Result<()> {
        let subject = subject(username);
        self.change_all(&format!("deletion of the rules of {subject}"), || {
            let request = Request::new(request::AUTH_DELETE_ACL).text("subject", &subject);
            match resource {
                Some(resource) => request.text("resource", resource),
                None => request,
            }
        })
        .await
    }

    /// One master after the other.
    async fn change_all(&self, operation: &str, request: impl Fn() -> Request) -> Result<()> {
        for master in self.masters().await? {
            self.client
                .call(&master.address, operation, request())
                .await?;
        }
        Ok(())
    }
}

fn subject(username: &str) -> String {
    format!("User:{username}")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Strings and truth values always serialize.
    serde_json::to_vec(value).unwrap_or_default()
}

/// Without a body there is none.
fn read_list<T: serde::de::DeserializeOwned>(
    answer: &Command,
    address: &Arc<str>,
) -> Result<Vec<T>> {
    if answer.body.is_empty() {
        return Ok(Vec::new());
    }
    fastjson::from_slice(&answer.body).map_err(|error| error.with_address(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let account = PlainAccount::new("reader-01", "hush-hush");
        let shown = format!("{:?} {account:?}", User::new("reader", "hush-hush"));
        assert!(
            shown.contains("reader") && !shown.contains("hush"),
            "{shown}"
        );
    }

    #[test]
    fn rules_are_written_as_brokers_read_them() {
        let acl = Acl::allow("reader", &[("Topic:orders", &["Sub", "Get"])]);
        let text = String::from_utf8(json(&acl)).unwrap();
        assert_eq!(
            text,
            r#"{"subject":"User:reader","policies":[{"policyType":"Custom","entries":[{"resource":"Topic:orders","actions":["Sub","Get"],"decision":"Allow"}]}]}"#
        );
        assert_eq!(serde_json::from_str::<Acl>(&text).unwrap(), acl);
    }
}
