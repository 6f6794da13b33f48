//! Request bodies as services read them: held to a limit, counted against budgets as they arrive, and without a place
//! among the requests in work while the client is waited for.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use crate::byte_budget::{ByteBudget, Held};
use crate::limits::{BodyError, BodyFault, declared_length};
use crate::overload::{ClientPlace, InFlight, PerClient};

/// What a body is counted against.
#[derive(Debug)]
pub struct Reception<'a> {
    /// Largest body, in bytes.
    pub limit: u64,
    /// The service takes the body piece by piece and holds none of it, so that only pieces count and not the whole.
    pub streamed: bool,
    pub process: &'a Arc<ByteBudget>,
    pub project: Option<&'a Arc<ByteBudget>>,
    /// Where the request has its places.
    pub in_work: [Option<&'a InFlight>; 2],
    /// Bodies that are waited for, by client.
    pub clients: &'a Arc<PerClient>,
    pub client: IpAddr,
}

impl Reception<'_> {
    /// The body for the service. What else comes back stands for the bytes that arrived: whoever answers the request
    /// keeps it until then.
    pub fn receive(self, headers: &HeaderMap, body: Body) -> Result<(Body, Option<Arc<Held>>), BodyError> {
        if http_body::Body::is_end_stream(&body) {
            return Ok((body, None));
        }
        let limit = self.limit;
        if declared_length(headers, &body).is_some_and(|length| length > limit) {
            return Err(BodyError::TooLarge { limit });
        }
        let held = Arc::new(Held::none(self.process, self.project));
        let places = Places {
            in_work: self.in_work.map(|in_flight| in_flight.cloned()),
            clients: self.clients.clone(),
            client: self.client,
            waiting: None,
        };
        let received =
            ReceivedBody { inner: body, left: limit, limit, held: (!self.streamed).then(|| held.clone()), places };
        Ok((Body::new(received), Some(held)))
    }
}

/// The places of a request, which it leaves from the first time that its body is waited for until the body is there.
struct Places {
    in_work: [Option<InFlight>; 2],
    clients: Arc<PerClient>,
    client: IpAddr,
    waiting: Option<ClientPlace>,
}

impl Places {
    /// False when the client has too many bodies on the way.
    fn leave(&mut self) -> bool {
        if self.waiting.is_none() {
            let Some(place) = self.clients.enter(self.client) else { return false };
            self.waiting = Some(place);
            self.in_work.iter().flatten().for_each(InFlight::pause);
        }
        true
    }

    fn come_back(&mut self) {
        if self.waiting.take().is_some() {
            self.in_work.iter().flatten().for_each(InFlight::resume);
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.come_back();
    }
}

struct ReceivedBody {
    inner: Body,
    left: u64,
    limit: u64,
    /// None for a body that is streamed.
    held: Option<Arc<Held>>,
    places: Places,
}

impl ReceivedBody {
    fn count(&mut self, bytes: u64) -> Result<(), BodyFault> {
        self.left = self.left.checked_sub(bytes).ok_or(BodyFault::TooLarge { limit: self.limit })?;
        match &self.held {
            Some(held) if !held.grow(bytes, 1) => Err(BodyFault::NoRoom),
            _ => Ok(()),
        }
    }
}

impl http_body::Body for ReceivedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() && !self.places.leave() {
            return Poll::Ready(Some(Err(axum::Error::new(BodyFault::NoRoom))));
        }
        let frame = ready!(polled);
        if !matches!(frame, Some(Ok(_))) || self.inner.is_end_stream() {
            self.places.come_back();
        }
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(fault) = self.count(data.len() as u64)
        {
            return Poll::Ready(Some(Err(axum::Error::new(fault))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::limits::read_body;

    struct Setting {
        process: Arc<ByteBudget>,
        in_work: InFlight,
        clients: Arc<PerClient>,
    }

    impl Setting {
        fn receive(&self, body: Body) -> (Body, Option<Arc<Held>>) {
            let reception = Reception {
                limit: 100,
                streamed: false,
                process: &self.process,
                project: None,
                in_work: [Some(&self.in_work), None],
                clients: &self.clients,
                client: [192, 0, 2, 1].into(),
            };
            reception.receive(&HeaderMap::new(), body).unwrap()
        }
    }

    fn setting() -> Setting {
        Setting {
            process: ByteBudget::new(150),
            in_work: InFlight::new(1, Default::default()),
            clients: PerClient::new(1),
        }
    }

    /// Some bytes, and then nothing for ever.
    fn stuck() -> Body {
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"12345"))]);
        Body::from_stream(futures_util::StreamExt::chain(first, futures_util::stream::pending()))
    }

    #[tokio::test]
    async fn a_body_that_is_waited_for_holds_no_place() {
        let setting = setting();
        let permit = setting.in_work.enter().unwrap();
        let (mut body, _held) = setting.receive(stuck());
        assert!(body.frame().await.unwrap().is_ok());
        assert!(setting.in_work.enter().is_err());
        assert!(body.frame().now_or_never().is_none());
        drop(setting.in_work.enter().unwrap());
        // Another one of the same client is refused.
        let (mut second, _) = setting.receive(stuck());
        assert!(second.frame().await.unwrap().is_ok());
        let error = second.frame().now_or_never().unwrap().unwrap().unwrap_err();
        assert!(matches!(crate::limits::body_error(error), BodyError::NoRoom));
        drop(body);
        assert!(setting.in_work.enter().is_err(), "the place is taken again");
        drop(permit);
        assert_eq!(setting.in_work.present(), 0);
    }

    #[tokio::test]
    async fn bodies_are_counted_until_their_requests_end() {
        let setting = setting();
        let whole = || Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 90])]));
        let (body, held) = setting.receive(whole());
        assert_eq!(read_body(body).await.unwrap().len(), 90);
        assert_eq!(setting.process.held(), 90);
        let (body, _refused) = setting.receive(whole());
        assert!(matches!(read_body(body).await, Err(BodyError::NoRoom)));
        drop(held);
        assert_eq!(setting.process.held(), 0);
        let (body, _held) = setting.receive(whole());
        assert!(read_body(body).await.is_ok());
        let too_large = Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 101])]));
        let (body, _held) = setting.receive(too_large);
        assert!(matches!(read_body(body).await, Err(BodyError::TooLarge { limit: 100 })));
        assert!(setting.receive(Body::empty()).1.is_none());
    }

    #[tokio::test]
    async fn a_body_that_is_streamed_does_not_fill_the_budget() {
        let setting = setting();
        let reception = Reception {
            limit: 1_000,
            streamed: true,
            process: &setting.process,
            project: None,
            in_work: [None, None],
            clients: &setting.clients,
            client: [192, 0, 2, 1].into(),
        };
        let pieces = (0..9).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100]));
        let streamed = Body::from_stream(futures_util::stream::iter(pieces));
        let (body, _held) = reception.receive(&HeaderMap::new(), streamed).unwrap();
        assert_eq!(read_body(body).await.unwrap().len(), 900);
        assert_eq!(setting.process.held(), 0);
    }
}
