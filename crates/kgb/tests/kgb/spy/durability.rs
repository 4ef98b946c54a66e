//! What happens when the record cannot be written, and when it must survive a loss of power.

use kgb::WhenSpoolFull;
use winni::model::{Direction, Durability, Outcome};

use super::rig::{SpyRig, masked, request, unmasked};
use crate::support::{Peer, noise, recorded};

async fn small(policy: WhenSpoolFull) -> SpyRig {
    SpyRig::with(|config| {
        config.when_spool_full = policy;
        config.segment_bytes = 1 << 20;
        config.max_spool_bytes = 1 << 20;
    })
    .await
}

#[tokio::test]
async fn a_full_spool_lets_messages_pass_and_counts_them() {
    let rig = small(WhenSpoolFull::PassUnrecorded).await;
    let (mut client, mut server) = rig.connected(false).await;
    let (small, large) = (masked(0x81, b"small"), masked(0x82, &noise(1, 2 << 20)));
    client.send(&small).await;
    assert_eq!(server.exactly(small.len()).await, small);
    let (_, received) = tokio::join!(client.send(&large), server.exactly(large.len()));
    assert!(received == large, "it passes whole");
    drop((client, server));
    rig.closed().await;
    assert!(rig.recorder.readiness().is_err(), "the alarm is raised");
    rig.recorder.end_life().unwrap();
    let seen = rig.seen();
    assert_eq!(seen.messages[0].outcome, Some(Outcome::Complete));
    let holed = &seen.messages[1];
    assert!(holed.bytes.len() < 2 << 20 && noise(1, 2 << 20).starts_with(&holed.bytes));
    let gap = recorded(rig.recorder.spool().dir()).1.remove(0);
    assert_eq!((gap.exchanges, gap.bytes), (1, (2 << 20) - holed.bytes.len() as u64));
}

#[tokio::test]
async fn a_full_spool_cuts_connections_where_that_is_the_policy() {
    let rig = small(WhenSpoolFull::Refuse).await;
    let (mut client, mut server) = rig.connected(false).await;
    let large = unmasked(0x82, &noise(1, 2 << 20));
    let sending = tokio::spawn(async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut server.stream, &large).await;
        server
    });
    let received = client.rest().await.unwrap_or_default();
    sending.await.unwrap();
    assert_eq!(rig.closed().await.outcome, Outcome::Refused);
    let kept = rig.seen().bytes(Direction::ToClient);
    assert!(received.len() <= kept.len() + 10, "nothing passed that is not on record");
    let mut refused = Peer::new(tokio::net::TcpStream::connect(rig.spy).await.unwrap());
    while rig.recorder.spool().note(&[0; 1000]).is_ok() {}
    refused.send(request("/?upstream=dewey", &format!("X-Long: {}\r\n", "x".repeat(100_000)))).await;
    assert!(refused.head().await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn at_the_level_of_power_a_messages_end_waits_for_the_disk() {
    let rig = SpyRig::with(|config| config.durability = Durability::Power).await;
    let (mut client, mut server) = rig.connected(false).await;
    for round in 0..20u8 {
        let (up, down) = (masked(0x81, &[round; 100]), unmasked(0x81, &[round; 5000]));
        let before = rig.recorder.spool().written();
        client.send(&up).await;
        assert_eq!(server.exactly(up.len()).await, up);
        assert!(rig.recorder.spool().synced() > before);
        server.send(&down).await;
        assert_eq!(client.exactly(down.len()).await, down);
        assert_eq!(rig.recorder.spool().synced(), rig.recorder.spool().written());
    }
    assert!(rig.seen().messages.iter().all(|message| message.begin.durability == Durability::Power));
}
