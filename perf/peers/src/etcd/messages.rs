//! The few messages of etcd's version 3 interface that a transfer needs, as prost structs.
//!
//! Fields and numbers are those of `rpc.proto` and `kv.proto` of etcd 3.4; fields that are never
//! used are left out, which the encoding allows. Written by hand, so that no protoc is needed.

use prost::{Message, Oneof};

/// Keys of a range, as of now.
#[derive(Clone, PartialEq, Message)]
pub struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Exclusive; empty: the one key.
    #[prost(bytes = "vec", tag = "2")]
    pub range_end: Vec<u8>,
    /// From the server's own state, without asking the quorum.
    #[prost(bool, tag = "7")]
    pub serializable: bool,
    #[prost(bool, tag = "9")]
    pub count_only: bool,
}

/// Answer to [`RangeRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// One key.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    /// Revision of the last change.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

/// Sets a key.
#[derive(Clone, PartialEq, Message)]
pub struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// Answer to [`PutRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct PutResponse {}

/// A part of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct RequestOp {
    #[prost(oneof = "Request", tags = "1, 2")]
    pub request: Option<Request>,
}

/// What a part of a transaction does.
#[derive(Clone, PartialEq, Oneof)]
pub enum Request {
    #[prost(message, tag = "1")]
    Range(RangeRequest),
    #[prost(message, tag = "2")]
    Put(PutRequest),
}

/// Answer to a part of a transaction.
#[derive(Clone, PartialEq, Message)]
pub struct ResponseOp {
    #[prost(oneof = "Response", tags = "1, 2")]
    pub response: Option<Response>,
}

/// Answer to what a part of a transaction did.
#[derive(Clone, PartialEq, Oneof)]
pub enum Response {
    #[prost(message, tag = "1")]
    Range(RangeResponse),
    #[prost(message, tag = "2")]
    Put(PutResponse),
}

/// A condition on one key; `result` 0 is "equal".
#[derive(Clone, PartialEq, Message)]
pub struct Compare {
    #[prost(int32, tag = "1")]
    pub result: i32,
    #[prost(int32, tag = "2")]
    pub target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub key: Vec<u8>,
    #[prost(oneof = "Target", tags = "6")]
    pub value: Option<Target>,
}

/// What a condition compares with.
#[derive(Clone, PartialEq, Oneof)]
pub enum Target {
    #[prost(int64, tag = "6")]
    ModRevision(i64),
}

/// `Compare::target` for [`Target::ModRevision`].
pub const COMPARE_MOD: i32 = 2;

/// All of `success` if every condition holds, else all of `failure`.
#[derive(Clone, PartialEq, Message)]
pub struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub success: Vec<RequestOp>,
    #[prost(message, repeated, tag = "3")]
    pub failure: Vec<RequestOp>,
}

/// Answer to [`TxnRequest`].
#[derive(Clone, PartialEq, Message)]
pub struct TxnResponse {
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub responses: Vec<ResponseOp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that protoc's encoder makes of the same message.
    #[test]
    fn a_condition_has_its_published_encoding() {
        let compare = Compare {
            result: 0,
            target: COMPARE_MOD,
            key: b"a".to_vec(),
            value: Some(Target::ModRevision(5)),
        };
        let transaction = TxnRequest {
            compare: vec![compare],
            ..TxnRequest::default()
        };
        let expected = [0x0a, 7, 0x10, 2, 0x1a, 1, b'a', 0x30, 5];
        assert_eq!(transaction.encode_to_vec(), expected);
    }

    #[test]
    fn answers_with_unknown_fields_are_read() {
        // header (1) with a revision (3), succeeded (2), one answer (3) to a put (2) with its header (1).
        let bytes = [
            0x0a, 2, 0x18, 9, 0x10, 1, 0x1a, 6, 0x12, 4, 0x0a, 2, 0x18, 9,
        ];
        let answer = TxnResponse::decode(&bytes[..]).expect("a valid answer");
        assert!(answer.succeeded);
        let put = Some(Response::Put(PutResponse {}));
        assert_eq!(answer.responses[0].response, put);
    }
}
