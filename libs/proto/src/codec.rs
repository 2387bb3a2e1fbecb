//! The codec of every generated client and server: prost's, but a request that is no message is its
//! sender's fault, not ours.

use std::collections::HashMap;
use std::marker::PhantomData;

use prost::{Message, Name};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};
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
        WireDecoder(ProstCodec::<T, U>::default().decoder())
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
pub struct WireDecoder<U>(ProstDecoder<U>);

impl<U: Message + Name + Default> Decoder for WireDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0.decode(buf).map_err(|status| {
            // Every request, and nothing else, is called so; the proto lint holds it.
            if U::NAME.ends_with("Request") {
                malformed(status.message())
            } else {
                status
            }
        })
    }
}

/// Such bytes come from broken clients and from texts that are not UTF-8.
fn malformed(why: &str) -> Status {
    let message = format!(
        "the request is not the message that this rpc takes ({why}); texts must be UTF-8, and the client must be generated from our protos"
    );
    let details = ErrorDetails::with_error_info("REQUEST_MALFORMED", "runledger", HashMap::new());
    Status::with_error_details(Code::InvalidArgument, message, details)
}
