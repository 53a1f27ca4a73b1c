//! Frames as a broker writes them (apache/rocketmq `RemotingCommand.java`, `RocketMQSerializable.java`).

use crossfade_rocketmq::codes::{request, response};
use rand::{RngExt as _, rngs::StdRng};

use crate::{draw, stored::Stored};

/// What a frame says.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) code: i32,
    pub(crate) opaque: i32,
    pub(crate) flag: i32,
    pub(crate) remark: Option<String>,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Frame {
    /// A good answer.
    pub(crate) fn answer(opaque: i32, fields: Vec<(String, String)>) -> Frame {
        Frame {
            code: response::SUCCESS,
            opaque,
            flag: 1,
            remark: None,
            fields,
            body: Vec::new(),
        }
    }

    /// Anything that a frame can say; the body is short.
    pub(crate) fn any(draws: &mut StdRng) -> Frame {
        // What brokers ask clients, and what they answer.
        const CODES: [i32; 12] = [
            request::CHECK_TRANSACTION_STATE,
            request::NOTIFY_CONSUMER_IDS_CHANGED,
            request::RESET_CONSUMER_CLIENT_OFFSET,
            request::GET_CONSUMER_STATUS_FROM_CLIENT,
            request::GET_CONSUMER_RUNNING_INFO,
            request::CONSUME_MESSAGE_DIRECTLY,
            response::SUCCESS,
            response::SYSTEM_ERROR,
            response::PULL_NOT_FOUND,
            response::PULL_OFFSET_MOVED,
            -1,
            0x7fff,
        ];
        const NAMES: [&str; 9] = [
            "bname",
            "consumerGroup",
            "queueId",
            "nextBeginOffset",
            "msgId",
            "transactionId",
            "commitLogOffset",
            "tranStateTableOffset",
            "",
        ];
        let fields = draws.random_range(0..6);
        let fields =
            (0..fields).map(|_| ((*draw::one(draws, &NAMES)).to_owned(), draw::text(draws)));
        let fields = fields.collect();
        let code = *draw::one(draws, &CODES);
        let body = match code {
            // They carry a message.
            request::CHECK_TRANSACTION_STATE | request::CONSUME_MESSAGE_DIRECTLY => {
                let mut stored = Stored::any(draws).bytes;
                if draws.random_bool(0.5) {
                    draw::spoil(draws, &mut stored);
                }
                stored
            }
            _ => draw::bytes(draws, 64),
        };
        Frame {
            code,
            opaque: draws.random(),
            flag: draws.random_range(0..4),
            // The binary header has no word for an empty one.
            remark: Some(draw::text(draws)).filter(|remark| !remark.is_empty()),
            fields,
            body,
        }
    }

    /// Its bytes, with a header of either kind. The code must fit two bytes for the binary one.
    pub(crate) fn encode(&self, draws: &mut StdRng) -> Vec<u8> {
        let (kind, header) = match draws.random_bool(0.5) {
            true => (0, self.json()),
            false => (1, self.binary()),
        };
        let mut out = Vec::with_capacity(8 + header.len() + self.body.len());
        out.extend_from_slice(&((4 + header.len() + self.body.len()) as u32).to_be_bytes());
        out.extend_from_slice(&((kind << 24) | header.len() as u32).to_be_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&self.body);
        out
    }

    fn json(&self) -> Vec<u8> {
        let fields = self.fields.iter().map(|(name, value)| {
            let text = serde_json::Value::from;
            format!("{}:{}", text(name.as_str()), text(value.as_str()))
        });
        let fields: Vec<_> = fields.collect();
        let remark = serde_json::Value::from(self.remark.clone());
        format!(
            r#"{{"code":{},"extFields":{{{}}},"flag":{},"language":"JAVA","opaque":{},"remark":{remark},"serializeTypeCurrentRPC":"JSON","version":399}}"#,
            self.code,
            fields.join(","),
            self.flag,
            self.opaque,
        )
        .into_bytes()
    }

    fn binary(&self) -> Vec<u8> {
        let long = |out: &mut Vec<u8>, bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        let mut fields = Vec::new();
        for (name, value) in &self.fields {
            fields.extend_from_slice(&(name.len() as u16).to_be_bytes());
            fields.extend_from_slice(name.as_bytes());
            long(&mut fields, value.as_bytes());
        }
        let mut header = Vec::new();
        header.extend_from_slice(&(self.code as i16).to_be_bytes());
        header.extend_from_slice(&[0, 1, 143]);
        header.extend_from_slice(&self.opaque.to_be_bytes());
        header.extend_from_slice(&self.flag.to_be_bytes());
        let remark = self.remark.as_deref().unwrap_or_default();
        long(&mut header, remark.as_bytes());
        long(&mut header, &fields);
        header
    }
}
