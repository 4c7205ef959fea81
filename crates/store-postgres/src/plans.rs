//! Tests of how the server carries out what every payment does: always by index, whatever the tables held
//! when it was planned, and with work that stays the same however long the history has become.

use crate::{
    connect::{Plans, Session},
    kit::Schema,
    statements::Statements,
};
use serde_json::Value;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Rows of a young ledger, and of one that has grown.
const FEW: i64 = 1_000;
const MANY: i64 = 50_000;

/// What has no plan.
const UTILITY: [&str; 4] = ["begin", "commit", "rollback", "take_time"];

async fn session(schema: &Schema) -> Session {
    schema.address().connect(Plans::Stable).await.expect("a session")
}

/// The plan of a statement, or what executing it showed.
async fn explain(client: &Client, options: &str, sql: &str, values: Option<&str>) -> Value {
    let parameters = client.prepare(sql).await.expect("the statement is prepared").params().len();
    let values = values.map_or_else(|| vec!["NULL"; parameters].join(", "), ToOwned::to_owned);
    let values = if parameters == 0 { String::new() } else { format!("({values})") };
    client.batch_execute(&format!("PREPARE explained AS {sql}")).await.expect("it is prepared by name");
    let explaining = format!("EXPLAIN (FORMAT JSON{options}) EXECUTE explained {values}");
    let told = client.simple_query(&explaining).await.expect("the statement is explained");
    client.batch_execute("DEALLOCATE explained").await.expect("its name is free again");
    let text = told.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let plan: Value = serde_json::from_str(text.expect("a plan")).expect("a plan in JSON");
    plan[0]["Plan"].clone()
}

/// A plan's nodes, from the top.
fn nodes(plan: &Value) -> Vec<&Value> {
    let below = plan["Plans"].as_array().into_iter().flatten();
    std::iter::once(plan).chain(below.flat_map(nodes)).collect()
}

fn is_index_scan(node: &Value) -> bool {
    ["Index Scan", "Index Only Scan"].iter().any(|kind| node["Node Type"] == *kind)
}

/// Panics where a statement reads more of a table than what it asks for.
async fn assert_by_index(schema: &Schema, when: &str) {
    let session = session(schema).await;
    for (name, sql) in Statements::TEXTS.iter().filter(|(name, _)| !UTILITY.contains(name)) {
        let plan = explain(&session.client, "", sql, None).await;
        for node in nodes(&plan) {
            let kind = node["Node Type"].as_str().unwrap_or_default();
            // What is open is few rows, and counted one by one.
            if (*name, node["Relation Name"].as_str()) == ("count_pending", Some("vehicle_claim")) {
                continue;
            }
            assert!(kind != "Seq Scan" && !kind.starts_with("Bitmap"), "{when}: {name}: {plan:#}");
            // An index that is read from end to end is a table that is; but what is open is to be counted.
            let is_counted = *name == "count_pending" && node["Relation Name"] == "vehicle_claim";
            let is_bounded = node["Index Cond"].is_string() || is_counted;
            assert!(!is_index_scan(node) || is_bounded, "{when}: {name}: {plan:#}");
        }
        let reads = sql.contains(" FROM ") && !sql.contains("FROM unnest") || sql.starts_with("UPDATE");
        assert_eq!(reads, nodes(&plan).into_iter().any(is_index_scan), "{when}: {name}: {plan:#}");
    }
}

/// Rows numbered from `first` on, of every table that grows; one in a hundred payments stays open.
async fn grow(client: &Client, first: i64, last: i64) {
    let numbers = format!("generate_series({first}, {last}) AS n");
    let sql = format!(
        "INSERT INTO invoice SELECT n, n, NULL, 183500, 5000, 2000, 1 + n % 100, 1, 20261123, 0, 'SAMSAT',
             'MH' || n, '32' || n, NULL, repeat('x', 800) FROM {numbers};
         INSERT INTO payment SELECT n, n, n, n, '1123090000-' || n FROM {numbers};
         INSERT INTO settlement SELECT n, n, 'AB' || n, '000123', NULL FROM {numbers} WHERE n % 100 <> 0;
         INSERT INTO posting SELECT n, n, step, '{{1,2}}', '{{1,-1}}' FROM {numbers}, generate_series(1, 2) step;
         INSERT INTO claim SELECT 'p/live/1/32' || n, n FROM {numbers};
         INSERT INTO claim SELECT 'p/sandbox/1/32' || n, n FROM {numbers};
         INSERT INTO vehicle_claim SELECT 'c/live/SAMSAT/MH' || n, n FROM {numbers};
         INSERT INTO outbox SELECT n, n, n, 1, 1, 0, 'PAYMENT_CONFIRMED' FROM {numbers};
         INSERT INTO entry SELECT n, 'top_up', 0, 1, 1, 'sari', 'a' || n, n FROM {numbers};
         INSERT INTO incident SELECT n, 'garbled', '', n, n, 1, NULL FROM {numbers};
         INSERT INTO proposal SELECT n, '{{}}' FROM {numbers};
         INSERT INTO partner SELECT n, 'mitra' || n, repeat('x', 400) FROM {numbers};
         INSERT INTO product SELECT 0, 'P' || n, '{{}}' FROM {numbers};
         INSERT INTO balance SELECT n, 0 FROM {numbers};
         INSERT INTO lease SELECT 'resolver/' || n, 'a', 1, 1 FROM {numbers};
         INSERT INTO batch SELECT md5(n::text)::uuid, true FROM {numbers};"
    );
    client.batch_execute("SET statement_timeout = 0").await.expect("it may take a while");
    client.batch_execute(&sql).await.expect("the tables grow");
}

#[tokio::test]
async fn payments_go_by_index_whatever_the_tables_hold() {
    let schema = Schema::migrated().await;
    assert_by_index(&schema, "with empty tables").await;
    let admin = schema.admin().await;
    grow(&admin, 1, MANY).await;
    assert_by_index(&schema, "with many rows").await;
    let tables = schema.tables().await.join(", ");
    admin.batch_execute(&format!("ANALYZE {tables}")).await.expect("statistics");
    assert_by_index(&schema, "with many rows and statistics").await;
}

/// Pages that the loading statements touch for twenty keys, by statement; and how many indexes they ask.
async fn touched(schema: &Schema, last: i64) -> Vec<(&'static str, i64, i64)> {
    const KEYS: i64 = 20;
    let session = session(schema).await;
    let numbers: Vec<i64> = (0..KEYS).map(|key| 1 + key * (last - 1) / (KEYS - 1)).collect();
    let list = |text: &dyn Fn(&i64) -> String| {
        format!("'{{{}}}'", numbers.iter().map(text).collect::<Vec<_>>().join(","))
    };
    let bare = list(&|number| number.to_string());
    let statements = [
        ("lock_balances", bare.clone()),
        ("lock_counters", "'{invoice,entry}'".to_owned()),
        ("lock_leases", list(&|number| format!("resolver/{number}"))),
        ("lock_fences", list(&|number| format!("resolver/{number}"))),
        ("load_partners", bare.clone()),
        ("load_claims", {
            let vehicles = list(&|number| format!("c/live/SAMSAT/MH{number}"));
            format!("{}, {vehicles}", list(&|number| format!("p/live/1/32{number}")))
        }),
        ("load_invoices", bare.clone()),
        ("lock_incidents", bare.clone()),
        ("find_invoices", bare),
        ("find_partner", format!("'mitra{last}'")),
        ("find_balance", last.to_string()),
    ];
    let mut touched = Vec::new();
    for (name, values) in statements {
        let sql = Statements::TEXTS.iter().find(|(text, _)| *text == name).expect("there is such a one").1;
        let plan = explain(&session.client, ", ANALYZE, BUFFERS", sql, Some(&values)).await;
        let pages = |kind: &str| plan[kind].as_i64().expect("pages are counted");
        let rows = nodes(&plan)[0]["Actual Rows"].as_i64().expect("rows are counted");
        assert!(rows > 0, "{name} finds what it asks for: {plan:#}");
        let asked = i64::try_from(nodes(&plan).into_iter().filter(|node| is_index_scan(node)).count());
        let lookups = rows * asked.expect("a few");
        touched.push((name, pages("Shared Hit Blocks") + pages("Shared Read Blocks"), lookups));
    }
    touched
}

#[tokio::test]
async fn loading_takes_the_same_work_however_long_the_history() {
    let schema = Schema::migrated().await;
    let admin = schema.admin().await;
    grow(&admin, 1, FEW).await;
    let young = touched(&schema, FEW).await;
    grow(&admin, FEW + 1, MANY).await;
    let grown = touched(&schema, MANY).await;
    for ((name, before, lookups), (_, after, _)) in young.into_iter().zip(grown) {
        // A tree that is fifty times as large is a level deeper, or two.
        assert!(after <= before + 2 * lookups, "{name} touched {before} pages, and now {after}");
    }
}
