//! What a message says of itself.

/// Begins every body, so that a message of somebody else is not taken for one of ours.
const MARK: &str = "crossfade-load ";

/// The mark, the id, and padding.
pub(super) fn write(id: &str, bytes: usize) -> Vec<u8> {
    let mut body = format!("{MARK}{id}\n").into_bytes();
    body.resize(bytes.max(body.len()), b'.');
    body
}

/// The id; `None` in a message that `crossfade load` has not sent.
pub(super) fn id(body: &[u8]) -> Option<&str> {
    let rest = body.strip_prefix(MARK.as_bytes())?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_read_as_it_was_written_and_from_nothing_else() {
        for bytes in [0, 30, 256] {
            let body = write("p-1-7", bytes);
            assert!(body.len() >= bytes);
            assert_eq!(id(&body), Some("p-1-7"));
        }
        for foreign in [
            &b""[..],
            b"hello\n",
            b"crossfade-load p-1-7",
            b"crossfade-load \xff\n",
        ] {
            assert_eq!(id(foreign), None);
        }
    }
}
