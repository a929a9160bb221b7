//! A long frame of an upstream does not hold up the other streams of its thread.

use std::future::poll_fn;
use std::sync::mpsc;
use std::time::Duration;

use sluicegate::dialect::NATIVE;
use sluicegate::model::{Event, Sink};
use sluicegate::route::{AnsweringTarget, Receiver};
use sluicegate::upstream::Trace;

use super::harness::TestGateway;
use super::scripted::ScriptedUpstream;

/// Notes for each long text of an answer whether another task ran before it was taken.
#[derive(Default)]
struct Observer {
    others_ran: Vec<bool>,
}

impl Sink for Observer {
    fn event(&mut self, event: Event<'_>) {
        if let Event::Text(text) = event
            && text.len() > 1
        {
            let (ran, has_run) = mpsc::channel();
            tokio::spawn(async move { ran.send(()) });
            // Longer than a task needs to begin.
            let has_run = has_run.recv_timeout(Duration::from_secs(20));
            self.others_ran.push(has_run.is_ok());
        }
    }
}

impl Receiver for Observer {
    fn begin_answer(&mut self, _: &AnsweringTarget<'_>) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn other_tasks_run_while_a_long_frame_is_read() {
    let upstream = ScriptedUpstream::bind().await;
    let running = TestGateway::with_upstreams(&[upstream.addr()], "");
    let answering = tokio::spawn(async move {
        let mut exchange = upstream.request().await;
        exchange.begin_and_stay().await;
        exchange.token(&"x".repeat(1 << 20)).await;
        exchange.token("y").await;
        exchange.token(&"z".repeat(1 << 20)).await;
        exchange.finish().await;
    });
    let reading = tokio::spawn(async move {
        let app = running.gateway.app();
        let caller = app.keys.authenticate(None).unwrap();
        let (_, route) = app.route("m", caller).unwrap();
        let request = NATIVE
            .parse(&br#"{"model":"m","prompt":"x"}"#[..].into())
            .unwrap();
        let mut observer = Observer::default();
        let metrics = &running.gateway.metrics;
        let trace = Trace::default();
        let opened = route.open(&request, &trace, &mut observer, metrics, None);
        let mut answer = opened.await.unwrap();
        while !poll_fn(|context| answer.answer.poll_read(context, &mut observer))
            .await
            .unwrap()
        {}
        observer.others_ran
    });
    assert_eq!(reading.await.unwrap(), [true, true]);
    answering.await.unwrap();
}
