//! From text to values, with their ranges.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use crate::backend::address::Address;

pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn number<T: FromStr + PartialOrd + Display>(
    text: &str,
    range: RangeInclusive<T>,
) -> Parsed<T> {
    // A sign or white space is no digit.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a whole number".into());
    }
    match text.parse() {
        Ok(value) if range.contains(&value) => Ok(value),
        _ => Err("out of range".into()),
    }
}

pub(super) fn millis(text: &str, range: RangeInclusive<u64>) -> Parsed<Duration> {
    number(text, range).map(Duration::from_millis)
}

pub(super) fn boolean(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| "not a truth value".into())
}

pub(super) fn text(text: &str) -> Parsed<String> {
    match text {
        "" => Err("is empty".into()),
        _ if text.len() > 4096 => Err("is too long".into()),
        _ if text.chars().any(char::is_control) => Err("has a control character".into()),
        _ => Ok(text.into()),
    }
}

pub(super) fn path(value: &str) -> Parsed<PathBuf> {
    text(value).map(PathBuf::from)
}

/// Also a file name, and a part of the ids that brokers list.
pub(super) fn instance_name(value: &str) -> Parsed<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if value.len() > 100
        || !value.starts_with(|first: char| first.is_ascii_alphanumeric())
        || !value.bytes().all(good)
    {
        return Err("not such a name".into());
    }
    Ok(value.into())
}

/// RocketMQ's rule for names of groups (apache/rocketmq `Validators.java`).
pub(super) fn producer_group(value: &str) -> Parsed<String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"%|_-".contains(&byte);
    if value.is_empty() || value.len() > 255 || !value.bytes().all(good) {
        return Err("not such a name".into());
    }
    Ok(value.into())
}

pub(super) fn address(value: &str) -> Parsed<String> {
    match value.parse::<Address>() {
        Ok(_) => Ok(value.into()),
        Err(error) => Err(error.message().into()),
    }
}
