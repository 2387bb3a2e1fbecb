//! Leaving a record out: a fact in the stream of that record, by an admin of its tenant or an operator.

use runledger_domain::fault::{Fault, Kind};
use runledger_domain::log::{self, Position, Record, Skipped, Stream};
use runledger_domain::scope::Scope;
use runledger_domain::time::Timestamp;
use runledger_eventlog::token::Token;
use runledger_eventlog::{Entry, Outcome};
use runledger_proto::decode::fields::Path;
use runledger_proto::log::v1::{SkipRequest, SkipResponse};
use runledger_proto::{decode, encode};
use runledger_service::auth::Caller;
use runledger_service::{limits, trace};
use tokio::time::Instant;

use crate::batch;
use crate::ingest::{Ingest, UNKNOWN_RETRY, log_fault};

impl Ingest {
    /// Appends the fact that a projection is to leave a record out.
    ///
    /// # Errors
    /// Invalid; Precondition, `KILL_SWITCH` or `STREAM_UNKNOWN`; NotFound, `RECORD_NOT_FOUND`, where
    /// there is no such record or it is another tenant's; and as appending any fact.
    pub(crate) async fn skip(
        &self,
        caller: &Caller,
        request: SkipRequest,
        deadline: Instant,
    ) -> Result<SkipResponse, Fault> {
        limits::writes_allowed(caller)?;
        let bytes = prost::Message::encoded_len(&request) as u64;
        let asked = decode::skip(request, Path::ROOT).map_err(Fault::invalid)?;
        // Whose the record is does not come from the body: the log says under which key it lies.
        let (position, scope, stream) = self.locate(caller, &asked).await?;
        if caller.scope.is_some() {
            self.pay_for_one(caller, bytes)?;
        }
        let entry = self.order(caller, asked, position, scope, stream.clone());
        let outcomes = self
            .log()
            .append(vec![entry], deadline)
            .await
            .map_err(log_fault)?;
        match outcomes.first() {
            Some(Outcome::Accepted(position)) => Ok(SkipResponse {
                position: Some(encode::position(position)),
                token: Token::from_positions([*position]).to_string(),
                stream: stream.as_str().to_owned(),
            }),
            Some(Outcome::Unknown) => {
                let fault = Fault::new(Kind::Unavailable, batch::UNKNOWN, batch::UNKNOWN_SAYS);
                Err(fault.retry_after(UNKNOWN_RETRY))
            }
            Some(Outcome::TooLarge) | None => {
                Err(Fault::internal("a small fact is larger than the log takes"))
            }
        }
    }

    /// The record that is meant, and to which scope and stream it belongs.
    async fn locate(
        &self,
        caller: &Caller,
        asked: &decode::Skip,
    ) -> Result<(Position, Scope, Stream), Fault> {
        let partition = asked.partition;
        let genesis = self
            .log()
            .genesis(partition.family)
            .await
            .map_err(log_fault)?;
        let known = genesis
            .iter()
            .find(|genesis| genesis.partition == partition.number)
            .ok_or_else(not_found)?;
        if asked
            .incarnation
            .is_some_and(|one| one != known.incarnation)
        {
            return Err(not_found());
        }
        let read = self.log().read(partition, asked.offset, 1).await;
        let record = read.map_err(log_fault)?.into_iter().next();
        let record = record
            .filter(|record| record.position.offset == asked.offset && asked.offset > 0)
            .ok_or_else(not_found)?;
        let found = Stream::of_key(partition.family, &record.key);
        match (caller.scope, found) {
            (None, None) => Err(Fault::new(
                Kind::Precondition,
                "STREAM_UNKNOWN",
                "the record's key names no stream, so no fact can be appended behind it; it belongs to no tenant \
                 and delays nothing but records with the same key",
            )),
            (None, Some((scope, stream))) => Ok((record.position, scope, stream)),
            (Some(own), Some((scope, stream))) if scope == own => {
                Ok((record.position, scope, stream))
            }
            (Some(_), _) => Err(not_found()),
        }
    }

    fn order(
        &self,
        caller: &Caller,
        asked: decode::Skip,
        position: Position,
        scope: Scope,
        stream: Stream,
    ) -> Entry {
        let (type_name, payload) = encode::skipped(&Skipped {
            projection: asked.projection,
            position,
            reason: asked.reason,
        });
        let now = self.clock().now();
        let record = Record {
            id: asked.id,
            scope,
            stream,
            kind: log::Kind::Fact,
            type_name: type_name.into(),
            occurred_at: now,
            recorded_at: now,
            author: caller.principal.into(),
            cause: None,
            // The caller names no time: a repeat must say the same as the first.
            request_digest: Record::digest_request(
                type_name,
                Timestamp::UNIX_EPOCH,
                None,
                &payload,
            ),
            key: None,
            payload,
            terms: None,
        };
        Entry {
            record,
            prev: None,
            trace: trace::current(),
        }
    }
}

/// The same for a place where nothing lies and for one that is another tenant's.
fn not_found() -> Fault {
    Fault::new(
        Kind::NotFound,
        "RECORD_NOT_FOUND",
        "there is no such record; name family, partition and offset as READ_MODEL_PARKED or `runledger dead-letters list` shows them",
    )
}
