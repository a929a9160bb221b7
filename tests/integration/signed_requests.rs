//! A request signed for AWS, as it arrives. Whether the signature is right is tested beside the
//! code that makes it.

use std::future::poll_fn;
use std::time::Duration;

use http::HeaderMap;
use sluicegate::model::{
    Credential, Event, FinishReason, Message, Part, ReasoningSigner, Request, Role, SigningKey,
    Vendor,
};
use sluicegate::upstream::exchange::{Connector, Endpoint, system_certificates};
use sluicegate::upstream::{Trace, Upstream};
use sluicegate::wire::{self, TargetSettings};

use crate::fixture_server::{fast, serve};

#[tokio::test]
async fn the_signature_covers_what_is_sent() {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = serve(&fast());
    let mut headers = HeaderMap::new();
    headers.insert("x-amzn-bedrock-trace", "ENABLED".parse().unwrap());
    headers.insert("x-team", "blue".parse().unwrap());
    let base_url = format!("http://{}/base", server.addr());
    let connector = Connector::new(&system_certificates().unwrap(), Duration::from_secs(5));
    let upstream = Upstream {
        name: "bedrock".to_owned(),
        wire: wire::by_name("bedrock-converse").unwrap(),
        base_url: base_url.clone(),
        credential: Some(Credential::SigV4(SigningKey {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "k5ecret".into(),
            session_token: Some("token".into()),
            region: "eu-west-1".to_owned(),
            service: "bedrock",
        })),
        headers,
        vendor: Vendor::default(),
        provider: "aws.bedrock",
        verbatim: false,
        signer: ReasoningSigner::new("bedrock-converse", "bedrock"),
        endpoint: Endpoint::new(&base_url.parse().unwrap(), &connector),
        frame_cap: 1 << 20,
    };
    let request = Request {
        messages: vec![Message {
            field: "prompt".to_owned(),
            role: Role::User,
            content: vec![Part::Text("Grüße".to_owned())],
        }],
        ..Request::default()
    };
    let model = "us.anthropic.claude-x-v1:0";
    let prepared = upstream.prepare(&request, model, TargetSettings::default());
    let mut answer = upstream
        .open(prepared.unwrap(), &Trace::default())
        .await
        .unwrap();
    let mut finish = None;
    let mut sink = |event: Event<'_>| {
        if let Event::Finish(reason) = event {
            finish = Some(reason);
        }
    };
    while !poll_fn(|context| answer.poll_read(context, &mut sink))
        .await
        .unwrap()
    {}
    assert_eq!(finish, Some(FinishReason::Stop));

    let seen = server.requests().remove(0);
    assert_eq!(seen.model.as_deref(), Some(model));
    assert_eq!(
        seen.path,
        "/base/model/us.anthropic.claude-x-v1%3A0/converse-stream"
    );
    let header = |name: &str| seen.headers[name].to_str().unwrap();
    assert_eq!(header("host"), server.addr().to_string());
    assert_eq!(header("x-amz-security-token"), "token");
    let time = header("x-amz-date");
    let authorization = header("authorization");
    let expected = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{}/eu-west-1/bedrock/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-amzn-bedrock-trace, \
         Signature=",
        &time[..8]
    );
    assert!(authorization.starts_with(&expected), "{authorization}");
    assert!(!format!("{:?} {upstream:?}", seen.headers).contains("5ecret"));
}
