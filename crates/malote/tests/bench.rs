//! The bench runs as a program, for its parts are processes of the same program.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_small_bench_measures_something_of_everything() {
    let data = tempfile::tempdir().unwrap();
    let rows: String = (0..400).map(|sku| format!("{sku},Product {sku},{}\n", 100 + sku)).collect();
    std::fs::write(data.path().join("products.csv"), format!("sku,description,price_cents\n{rows}")).unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_malote"))
        .args(["bench", "lots", "--json", "--pdvs", "3", "--rounds", "2", "--tenfold", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let result: Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(result["bench"], "lots");
    assert_eq!(result["input"]["records"], 400);
    for figure in [
        "/machine/cores",
        "/ratio/one_pdv",
        "/ratio/all_pdvs",
        "/floor/bare_sqlite_s",
        "/ours/one_pdv_applied_s",
        "/ours/all_pdvs_last_applied_s",
        "/ours/http_bytes_per_record",
        "/ours/stream_bytes_per_record",
        "/ours/close_to_till_p50_ms",
        "/ours/pdv_rss_mb",
        "/ours/hub_rss_mb",
        "/ours/pdv_rss_mb_tenfold",
        "/ours/hub_rss_mb_tenfold",
    ] {
        let value = result.pointer(figure).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{figure} is {value:?}");
    }
}

#[test]
fn without_products_it_says_what_to_do() {
    let empty = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_malote"))
        .args(["bench", "lots", "--data"])
        .arg(empty.path())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("products.csv"));
}
