//! Statements sent one behind the other without waiting for answers: one round trip for all of them.

use futures::future::poll_fn;
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio_postgres::{Client, Error, Row, Statement, types::ToSql};

/// The answer to one statement.
pub(crate) type Answer = Result<Vec<Row>, Error>;

type Parameter<'a> = Box<dyn ToSql + Sync + Send + 'a>;
type Sending<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// Statements to be sent together, in order.
pub(crate) struct Pipeline<'a> {
    client: &'a Client,
    statements: Vec<(Sending<'a>, Option<Answer>)>,
}

impl<'a> Pipeline<'a> {
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client, statements: Vec::with_capacity(16) }
    }

    /// Adds a statement, and says at which place its answer will stand.
    pub(crate) fn push(&mut self, statement: &'a Statement, parameters: Vec<Parameter<'a>>) -> usize {
        let client = self.client;
        let sending = async move {
            let parameters: Vec<&(dyn ToSql + Sync)> =
                parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect();
            client.query(statement, &parameters).await
        };
        self.statements.push((Box::pin(sending), None));
        self.statements.len() - 1
    }

    /// Sends everything and waits for all answers.
    pub(crate) async fn run(mut self) -> Vec<Answer> {
        poll_fn(|context| self.poll(context)).await;
        let answered = "polled until all are answered";
        self.statements.into_iter().map(|(_, answer)| answer.expect(answered)).collect()
    }

    /// Polls in order, since a statement is sent when it is first polled.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut done = Poll::Ready(());
        for (sending, answer) in &mut self.statements {
            if answer.is_none() {
                match sending.as_mut().poll(context) {
                    Poll::Ready(answered) => *answer = Some(answered),
                    Poll::Pending => done = Poll::Pending,
                }
            }
        }
        done
    }
}

/// The parameters of a statement, boxed.
macro_rules! parameters {
    ($($value:expr),* $(,)?) => { vec![$(Box::new($value)),*] };
}
pub(crate) use parameters;
