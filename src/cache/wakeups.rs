//! "Something changed, look again": in this process, and through Redis in the others.

use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::{Client, Msg, RedisError};
use futures_util::StreamExt;
use tokio::sync::broadcast;
use tokio::task::AbortHandle;

use super::CacheAddressError;
use super::redis::RedisClient;
use crate::model::TicketId;

/// A receiver that falls further behind loses messages; it polls anyway.
const BACKLOG: usize = 1_024;

const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_LONGEST: Duration = Duration::from_secs(15);
/// A connection that silently broke is noticed by an unanswered ping.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wakeup {
    /// There is a ticket to run.
    TicketQueued,
    /// A ticket has another state or progress.
    TicketChanged(TicketId),
    /// Somebody wants a running ticket to stop.
    TicketCancelling(TicketId),
}

impl Wakeup {
    fn encode(self) -> String {
        match self {
            Self::TicketQueued => "queued".to_owned(),
            Self::TicketChanged(ticket) => format!("changed {ticket}"),
            Self::TicketCancelling(ticket) => format!("cancelling {ticket}"),
        }
    }

    /// `None` for what a newer release may send.
    fn decode(message: &str) -> Option<Self> {
        match message.split_once(' ') {
            None if message == "queued" => Some(Self::TicketQueued),
            Some(("changed", ticket)) => Some(Self::TicketChanged(ticket.parse().ok()?)),
            Some(("cancelling", ticket)) => Some(Self::TicketCancelling(ticket.parse().ok()?)),
            _ => None,
        }
    }
}

#[derive(Clone)]
pub struct Wakeups {
    here: broadcast::Sender<Wakeup>,
    elsewhere: Option<Elsewhere>,
}

#[derive(Clone)]
struct Elsewhere {
    channel: Arc<str>,
    client: RedisClient,
    /// Ends the listener when the last clone goes.
    _listener: Arc<Listener>,
}

struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Wakeups {
    pub(super) fn in_process() -> Self {
        Self { here: broadcast::channel(BACKLOG).0, elsewhere: None }
    }

    /// Starts the one task of this process that listens; needs a running tokio.
    pub(super) fn through_redis(
        url: &str,
        namespace: &str,
        client: RedisClient,
    ) -> Result<Self, CacheAddressError> {
        let here = broadcast::channel(BACKLOG).0;
        let channel: Arc<str> = format!("weir:{namespace}:wakeups").into();
        let listening = Client::open(url).map_err(|error| CacheAddressError(error.into()))?;
        let task = tokio::spawn(listen(listening, channel.clone(), here.clone()));
        let listener = Arc::new(Listener(task.abort_handle()));
        Ok(Self { here, elsewhere: Some(Elsewhere { channel, client, _listener: listener }) })
    }

    /// What nobody can wait for in another process.
    pub fn send_here(&self, wakeup: Wakeup) {
        // Nobody listening is no error.
        let _ = self.here.send(wakeup);
    }

    /// Never waits: the message to the others travels on its own.
    pub fn send(&self, wakeup: Wakeup) {
        self.send_here(wakeup);
        if let Some(Elsewhere { channel, client, .. }) = &self.elsewhere
            && client.is_well()
        {
            let (client, channel) = (client.clone(), channel.clone());
            tokio::spawn(async move { client.publish(&channel, &wakeup.encode()).await });
        }
    }

    /// Begin to listen before you look, or a change in between is missed.
    pub fn listen(&self) -> broadcast::Receiver<Wakeup> {
        self.here.subscribe()
    }
}

async fn listen(client: Client, channel: Arc<str>, here: broadcast::Sender<Wakeup>) {
    let mut pause = RECONNECT_FIRST;
    loop {
        let ended = listen_once(&client, &channel, &here, &mut pause).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "no wake-ups through redis; polling goes on");
        }
        tokio::time::sleep(pause).await;
        pause = RECONNECT_LONGEST.min(pause * 2);
    }
}

/// One connection, for as long as it lives.
async fn listen_once(
    client: &Client,
    channel: &str,
    here: &broadcast::Sender<Wakeup>,
    pause: &mut Duration,
) -> Result<(), RedisError> {
    let connect = async {
        let mut connection = client.get_async_pubsub().await?;
        connection.subscribe(channel).await?;
        Ok::<_, RedisError>(connection)
    };
    let Ok(connected) = tokio::time::timeout(PING_TIMEOUT, connect).await else { return Ok(()) };
    let (mut commands, mut messages) = connected?.split();
    *pause = RECONNECT_FIRST;
    loop {
        match tokio::time::timeout(PING_EVERY, messages.next()).await {
            Ok(Some(message)) => {
                if let Some(wakeup) = text_of(&message).as_deref().and_then(Wakeup::decode) {
                    let _ = here.send(wakeup);
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => match tokio::time::timeout(PING_TIMEOUT, commands.ping::<()>()).await {
                Ok(answered) => answered?,
                Err(_) => return Ok(()),
            },
        }
    }
}

fn text_of(message: &Msg) -> Option<String> {
    message.get_payload().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_strange_ones_are_ignored() {
        for wakeup in [
            Wakeup::TicketQueued,
            Wakeup::TicketChanged(TicketId([7; 16])),
            Wakeup::TicketCancelling(TicketId([8; 16])),
        ] {
            assert_eq!(Wakeup::decode(&wakeup.encode()), Some(wakeup));
        }
        for strange in ["", "changed", "changed x", "queued x", "🍣"] {
            assert_eq!(Wakeup::decode(strange), None, "{strange}");
        }
    }
}
