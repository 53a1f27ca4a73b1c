//! Bearer tokens, one for each role.

use std::{fmt, fs, path::Path};

use axum::http::{HeaderMap, StatusCode, header};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// The largest token file, in bytes.
const MAX_TOKEN_BYTES: u64 = 4_096;

/// What a token is good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Applications: sync and plans.
    Sdk,
    /// People and scripts that look.
    ReadOnly,
    /// People and scripts that decide. Good for everything.
    Operator,
}

impl Role {
    /// The name in the audit log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Sdk => "sdk",
            Role::ReadOnly => "read-only",
            Role::Operator => "operator",
        }
    }
}

/// A secret; `Debug` does not show it.
#[derive(Clone, Eq, PartialEq)]
pub struct Token(String);

impl Token {
    /// # Errors
    /// What is wrong with it: it is empty, or has blanks or characters outside ASCII.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() || !text.chars().all(|letter| letter.is_ascii_graphic()) {
            return Err("a token is one word of ASCII letters, digits and signs".into());
        }
        Ok(Token(text.into()))
    }

    /// Reads a file that holds the token and perhaps the end of a line.
    ///
    /// # Errors
    /// What is wrong with the file or the token, with the file's name.
    pub fn from_file(file: &Path) -> Result<Self, String> {
        let failed = |why: &dyn fmt::Display| format!("token file {}: {why}", file.display());
        let size = fs::metadata(file).map_err(|error| failed(&error))?.len();
        if size > MAX_TOKEN_BYTES {
            return Err(failed(&format_args!(
                "{size} bytes; at most {MAX_TOKEN_BYTES}"
            )));
        }
        let text = fs::read_to_string(file).map_err(|error| failed(&error))?;
        Token::new(text.trim()).map_err(|why| failed(&why))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes as long for a wrong guess as for a right one of the same length.
    fn is(&self, guess: &str) -> bool {
        self.0.as_bytes().ct_eq(guess.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The tokens that are taken. Without any, everybody may do everything; the server then listens on the loopback interface only.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    /// For applications.
    pub sdk: Option<Token>,
    /// For people and scripts that look.
    pub read_only: Option<Token>,
    /// For people and scripts that decide.
    pub operator: Option<Token>,
}

impl Tokens {
    /// No token at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sdk.is_none() && self.read_only.is_none() && self.operator.is_none()
    }

    /// The role behind a request, if `allowed` has it or it is the operator's.
    pub(super) fn check(&self, headers: &HeaderMap, allowed: &[Role]) -> Result<Role, Problem> {
        if self.is_empty() {
            return Ok(Role::Operator);
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let Some(given) = given else {
            return Err(unauthorized(
                "this request needs `Authorization: Bearer TOKEN`",
            ));
        };
        let known = [
            (Role::Operator, &self.operator),
            (Role::Sdk, &self.sdk),
            (Role::ReadOnly, &self.read_only),
        ];
        // Every token is compared, so that the time says nothing about which one was nearly right.
        let roles: Vec<Role> = known
            .iter()
            .filter(|(_, token)| token.as_ref().is_some_and(|token| token.is(given)))
            .map(|(role, _)| *role)
            .collect();
        let fits = |role: &Role| *role == Role::Operator || allowed.contains(role);
        match roles.iter().find(|role| fits(role)) {
            Some(role) => Ok(*role),
            None if roles.is_empty() => Err(unauthorized("the token is not known here")),
            None => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                format!("the {} token may not do this", roles[0].as_str()),
            )),
        }
    }
}

fn unauthorized(message: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
}
