//! The codec of every generated client and server: prost's, but a request that is no message is its
//! sender's fault, not ours, and one of a great many messages is refused before it is decoded.

use std::collections::HashMap;
use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost::{Message, Name};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstEncoder};
use tonic_types::{ErrorDetails, StatusExt as _};

/// `T` goes out, `U` comes in.
#[derive(Debug)]
pub struct WireCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for WireCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for WireCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = WireEncoder<T>;
    type Decoder = WireDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        WireEncoder(ProstCodec::<T, U>::default().encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        WireDecoder(PhantomData)
    }
}

#[derive(Debug)]
pub struct WireEncoder<T>(ProstEncoder<T>);

impl<T: Message> Encoder for WireEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        self.0.encode(item, buf)
    }
}

#[derive(Debug)]
pub struct WireDecoder<U>(PhantomData<U>);

impl<U: Message + Name + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        read(buf.copy_to_bytes(buf.remaining())).map(Some)
    }
}

/// Most entries of one request: messages and texts in its own fields, each counted as often as it
/// comes. Several times what the largest batch may have, so that those are still told their size.
///
/// An empty message costs its sender two bytes, and several hundred once it is decoded: without this
/// a request of one mebibyte takes hundreds of them.
pub const ENTRIES_MAX: usize = 4_096;

/// Decodes one message as it came over the wire.
///
/// # Errors
/// Of a request: `InvalidArgument`, `REQUEST_MALFORMED` or `BATCH_TOO_LARGE`. Of an answer: internal.
pub fn read<U: Message + Name + Default>(bytes: Bytes) -> Result<U, Status> {
    // Every request, and nothing else, is called so; the proto lint holds it.
    let is_request = U::NAME.ends_with("Request");
    if is_request && has_too_many_entries(&bytes) {
        return Err(too_many_entries());
    }
    U::decode(bytes).map_err(|error| {
        if is_request {
            malformed(&error.to_string())
        } else {
            Status::internal(error.to_string())
        }
    })
}

/// Looks at the outermost fields alone. Where these are malformed decoding will end too, so what
/// follows does not count.
fn has_too_many_entries(mut bytes: &[u8]) -> bool {
    let mut entries = 0_usize;
    while let Ok((tag, wire_type)) = decode_key(&mut bytes)
        && skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).is_ok()
    {
        entries += usize::from(wire_type == WireType::LengthDelimited);
        if entries > ENTRIES_MAX {
            return true;
        }
    }
    false
}

/// The same of a stored message, and of what lies right inside it: whatever its fields mean, each of
/// them that could be a message is looked into once.
pub(crate) fn has_more_entries_than(most: usize, mut bytes: &[u8]) -> bool {
    let mut entries = 0_usize;
    while let Ok((tag, wire_type)) = decode_key(&mut bytes) {
        let before = bytes;
        if skip_field(wire_type, tag, &mut bytes, DecodeContext::default()).is_err() {
            break;
        }
        if wire_type == WireType::LengthDelimited {
            let (field, _) = before.split_at(before.len() - bytes.len());
            entries += 1 + inside(field);
        }
        if entries > most {
            return true;
        }
    }
    false
}

/// Entries of a field of bytes, if it is a message.
fn inside(mut field: &[u8]) -> usize {
    let mut entries = 0;
    if prost::encoding::decode_varint(&mut field).is_err() {
        return 0;
    }
    while let Ok((tag, wire_type)) = decode_key(&mut field)
        && skip_field(wire_type, tag, &mut field, DecodeContext::default()).is_ok()
    {
        entries += usize::from(wire_type == WireType::LengthDelimited);
    }
    entries
}

fn too_many_entries() -> Status {
    let message = format!("the request has more than {ENTRIES_MAX} entries; send it in parts");
    refused("BATCH_TOO_LARGE", message)
}

/// Such bytes come from broken clients and from texts that are not UTF-8.
fn malformed(why: &str) -> Status {
    let message = format!(
        "the request is not the message that this rpc takes ({why}); texts must be UTF-8, and the client must be generated from our protos"
    );
    refused("REQUEST_MALFORMED", message)
}

fn refused(reason: &'static str, message: String) -> Status {
    let details = ErrorDetails::with_error_info(reason, "runledger", HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}
