//! The model keeps the suite that it is the reference for, and its faults do what they say.

use domain::{Accepted, Command, Environment};
use futures::future::BoxFuture;
use std::sync::Arc;
use store::{
    Error, Store,
    conformance::{
        Database,
        fixture::{self, number},
    },
    model::{Fault, Model},
};

struct Shared(Model);

impl Database for Shared {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async { Arc::new(self.0.clone()) as Arc<dyn Store> })
    }
}

async fn fresh() -> Shared {
    Shared(Model::new())
}

store::conformance!(fresh);

#[tokio::test]
async fn a_fault_before_the_commit_writes_nothing() {
    let model = Model::new();
    for (fault, name) in [
        (Fault::Full, "Full"),
        (Fault::Unavailable, "Unavailable"),
        (Fault::Data, "Data"),
        (Fault::Fatal, "Fatal"),
    ] {
        model.fail_next(fault);
        let refused =
            model.apply(fixture::batch(vec![fixture::add_partner(Environment::Live, "mitra")])).await;
        assert!(format!("{:?}", refused.unwrap_err()).starts_with(name));
        assert_eq!(model.partners().await.unwrap(), []);
    }
    fixture::partner(&model, Environment::Live, "mitra", 0).await;
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_batch_id() {
    for (fault, committed) in [(Fault::AnswerLostAfterCommit, true), (Fault::AnswerLostBeforeCommit, false)] {
        let model = Model::new();
        model.fail_next(fault);
        let batch = fixture::batch(vec![Command::ReserveInvoiceNumbers { count: 10 }]);
        let Err(Error::Ambiguous { decisions, .. }) = model.apply(batch.clone()).await else {
            panic!("{fault:?} is ambiguous")
        };
        assert_eq!(decisions, [Ok(Accepted::Numbers { first: number(0) })]);
        assert_eq!(model.batch_committed(batch.id).await.unwrap(), committed);
        assert!(matches!(model.apply(batch).await, Err(Error::Data(_))));
        let next = fixture::apply_one(&model, Command::ReserveInvoiceNumbers { count: 1 }).await;
        let first = number(if committed { 10 } else { 0 });
        assert_eq!(next, Ok(Accepted::Numbers { first }));
    }
}
