//! Three nodes, one of them lost in the middle.

use malote_tests::{Stack, price, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_lot_survives_the_loss_of_a_node_at_every_step() {
    let stack = Stack::over_three().await;
    stack.store("1", &[], &["1"]).await;
    let till = stack.till("1", "1").await;
    for lost in 0..3_usize {
        let cluster = stack.nodes.cluster();
        let lot = stack.open("all").await;
        let mut accepted = 0;
        for part in 0..6_u64 {
            if part == 2 {
                cluster.kill_node(lost).await.unwrap();
            }
            let lines: String = (0..500).map(|n| price(&format!("{part}-{n}"), part * 1_000 + n)).collect();
            // While a leader is elected the hub may ask for patience; what it did not confirm is sent again.
            until("the records to be taken", async || {
                let (status, taken) = stack.send(&lot, "", lines.clone()).await;
                (status == 200).then_some(()).ok_or(taken.to_string())
            })
            .await;
            accepted += 500;
        }
        let close = format!("/v1/lots/{lot}/close");
        let key = format!("close {lost}");
        let mut found = 0;
        until("the lot to close", async || {
            let (status, body) = stack.post_with_key(&close, &key, json!({})).await;
            found = body["records"]["price"].as_u64().unwrap_or(0);
            (status == 200).then_some(()).ok_or(body.to_string())
        })
        .await;
        assert!(found >= accepted, "{found} of {accepted}");
        till.until_price("5-499", Some(5_499)).await;
        assert_eq!(till.records("price").await.len(), 3_000);
        stack.until_state(&lot, "released").await;
        cluster.start_node(lost).await.unwrap();
        cluster.current().await.unwrap();
    }
}
