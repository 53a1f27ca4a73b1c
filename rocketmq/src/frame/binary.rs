//! The binary header: `code(2) language(1) version(2) opaque(4) flag(4) remark(4+n) fields(4+n)`, a field being `name(2+n) value(4+n)`.

use bytes::Bytes;

use super::{Command, Fields, protocol};
use crate::error::Result;

pub(super) fn decode(header: Bytes) -> Result<Command> {
    let mut rest = Cursor(&header);
    let code = i32::from(i16::from_be_bytes(rest.array()?));
    let _language = rest.array::<1>()?;
    let _version = rest.array::<2>()?;
    let opaque = i32::from_be_bytes(rest.array()?);
    let flag = i32::from_be_bytes(rest.array()?);
    let remark = rest.long_text()?;
    let fields_length = u32::from_be_bytes(rest.array()?) as usize;
    let mut rest = Cursor(rest.take(fields_length)?);
    let mut fields = Fields::of(&header);
    while !rest.0.is_empty() {
        let length = u16::from_be_bytes(rest.array()?).into();
        let name = text(rest.take(length)?)?;
        fields.push(name, rest.long_text()?);
    }
    Ok(Command {
        code,
        opaque,
        flag,
        remark: (!remark.is_empty()).then(|| remark.to_owned()),
        fields,
        body: Bytes::new(),
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or_else(|| protocol("a frame's binary header ends too early"))?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn long_text(&mut self) -> Result<&'a str> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        text(self.take(length)?)
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|source| protocol("a frame's binary header is not UTF-8").with_source(source))
}
