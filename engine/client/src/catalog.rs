//! Documents of a shard's catalog: what tools remember about a cluster, kept by the cluster.

use quorate_protocol::client::{DocumentRow, ReplyBody, RequestBody};
use quorate_protocol::ids::{DocumentKey, ShardId};
use quorate_protocol::shard::catalog::{Document, PutAnswer};

use crate::blocking::BlockingClient;
use crate::error::{ClientError, Target};
use crate::session::Outcome;

/// Named documents with versions.
pub trait Catalog {
    /// What there is, or the version of what is not there. Linearizable.
    ///
    /// # Errors
    /// There is no answer.
    fn document(&mut self, key: DocumentKey) -> Result<Document, ClientError>;

    /// Writes a document if it has the version `expected`; no bytes remove it.
    ///
    /// # Errors
    /// There is no answer, and reading did not tell either what became of it.
    fn put_document(
        &mut self,
        key: DocumentKey,
        expected: u64,
        bytes: &[u8],
    ) -> Result<PutAnswer, ClientError>;

    /// All that there are, without their contents.
    ///
    /// # Errors
    /// There is no answer.
    fn documents(&mut self) -> Result<Vec<DocumentRow>, ClientError>;
}

/// The catalog of one shard.
#[derive(Debug)]
pub struct ShardCatalog<'a> {
    client: &'a mut BlockingClient,
    shard: ShardId,
}

impl BlockingClient {
    /// The catalog of a shard.
    pub fn catalog(&mut self, shard: ShardId) -> ShardCatalog<'_> {
        ShardCatalog {
            client: self,
            shard,
        }
    }
}

impl ShardCatalog<'_> {
    fn unexpected(&self, request: &'static str, reply: ReplyBody) -> ClientError {
        let target = Target::Shard(self.shard);
        ClientError::of(target, request, Outcome::Reply(reply), std::iter::empty())
    }

    /// A write that was not answered, or sent again and then in conflict with itself, has happened if its bytes are there.
    fn is_there(&mut self, key: DocumentKey, bytes: &[u8]) -> Result<Option<u64>, ClientError> {
        let document = self.document(key)?;
        Ok((document.bytes == bytes).then_some(document.version))
    }
}

impl Catalog for ShardCatalog<'_> {
    fn document(&mut self, key: DocumentKey) -> Result<Document, ClientError> {
        let reply = self
            .client
            .shard_request(self.shard, RequestBody::GetDocument { key })?;
        match reply {
            ReplyBody::Document(document) => Ok(document),
            other => Err(self.unexpected("get_document", other)),
        }
    }

    fn put_document(
        &mut self,
        key: DocumentKey,
        expected: u64,
        bytes: &[u8],
    ) -> Result<PutAnswer, ClientError> {
        let body = RequestBody::PutDocument {
            key,
            expected,
            bytes: bytes.to_vec(),
        };
        let answer = match self.client.shard_request(self.shard, body) {
            Ok(ReplyBody::PutDocument(answer)) => Ok(answer),
            Ok(other) => return Err(self.unexpected("put_document", other)),
            Err(error) => Err(error),
        };
        match answer {
            Ok(PutAnswer::Conflict { .. }) | Err(_) if !bytes.is_empty() => {
                match self.is_there(key, bytes)? {
                    Some(version) => Ok(PutAnswer::Written { version }),
                    None => answer,
                }
            }
            _ => answer,
        }
    }

    fn documents(&mut self) -> Result<Vec<DocumentRow>, ClientError> {
        let reply = self
            .client
            .shard_request(self.shard, RequestBody::ListDocuments)?;
        match reply {
            ReplyBody::Documents(rows) => Ok(rows),
            other => Err(self.unexpected("list_documents", other)),
        }
    }
}
