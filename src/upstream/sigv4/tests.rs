//! Compares signatures with those that other implementations made of the same requests.

use std::time::Duration;

use super::*;

/// The key, the time and the host of AWS's own examples, 2015-08-30T12:36:00Z.
const TIME: u64 = 1_440_938_160;
const TOKEN: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

fn key(service: &'static str, region: &str, token: Option<&str>) -> SigningKey {
    SigningKey {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        session_token: token.map(Into::into),
        region: region.to_owned(),
        service,
    }
}

/// The cases of AWS's Signature Version 4 test suite that have at most one simple parameter: name,
/// method, path, headers beside `host` and `x-amz-date`, body, signature.
/// <https://docs.aws.amazon.com/general/latest/gr/signature-v4-test-suite.html>
#[test]
fn the_published_vectors() {
    type Vector<'a> = (
        &'a str,
        &'a str,
        &'a str,
        &'a [(&'a str, &'a str)],
        &'a str,
        &'a str,
    );
    const UNRESERVED: &str = "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const EMPTY_PATH: &str = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    #[rustfmt::skip]
    let vectors: &[Vector<'_>] = &[
        ("get-vanilla", "GET", "/", &[], "", EMPTY_PATH),
        ("get-slash", "GET", "//", &[], "", EMPTY_PATH),
        ("get-slash-dot-slash", "GET", "/./", &[], "", EMPTY_PATH),
        ("get-relative", "GET", "/example/..", &[], "", EMPTY_PATH),
        ("get-relative-relative", "GET", "/example1/example2/../..", &[], "", EMPTY_PATH),
        ("get-slashes", "GET", "//example//", &[], "",
            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
        ("get-slash-pointless-dot", "GET", "/./example", &[], "",
            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
        ("get-space", "GET", "/example space/", &[], "",
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741"),
        ("get-utf8", "GET", "/\u{1234}", &[], "",
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        ("get-unreserved", "GET", UNRESERVED, &[], "",
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        ("get-header-key-duplicate", "GET", "/",
            &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")], "",
            "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"),
        ("get-header-value-order", "GET", "/",
            &[("my-header1", "value4"), ("my-header1", "value1"), ("my-header1", "value3"),
                ("my-header1", "value2")], "",
            "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01"),
        ("get-header-value-trim", "GET", "/",
            &[("my-header1", " value1"), ("my-header2", " \"a   b   c\"")], "",
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"),
        ("get-vanilla-empty-query-key", "GET", "/?Param1=value1", &[], "",
            "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb"),
        ("post-vanilla", "POST", "/", &[], "",
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("post-header-key-sort", "POST", "/", &[("my-header1", "value1")], "",
            "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c"),
        ("post-x-www-form-urlencoded", "POST", "/",
            &[("content-type", "application/x-www-form-urlencoded")], "Param1=value1",
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ("post-sts-header-before", "POST", "/", &[("x-amz-security-token", TOKEN)], "",
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
    ];
    for (name, method, path, headers, body, signature) in vectors {
        let mut all = vec![
            ("x-amz-date".to_owned(), "20150830T123600Z".to_owned()),
            ("host".to_owned(), "example.amazonaws.com".to_owned()),
        ];
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        all.extend(headers.iter().map(owned));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let request = Canonical::new(method, path, query, all, body.as_bytes());
        let key = key("service", "us-east-1", None);
        let header = request.authorization(&key, "20150830T123600Z");
        let expected = format!("Signature={signature}");
        assert!(header.ends_with(&expected), "{name}: {header}");
    }
}

/// Requests to Bedrock as botocore 1.43 signs them: URL, region, one more header, token, body,
/// signed headers, signature.
#[test]
fn the_signatures_of_aws_own_client() {
    let base = "https://bedrock-runtime.eu-west-1.amazonaws.com/model";
    let profile =
        "arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fabc123";
    let cases = [
        (
            format!("{base}/anthropic.claude-3-haiku-20240307-v1%3A0/converse-stream"),
            ("eu-west-1", None, None),
            r#"{"messages":[]}"#,
            "content-type;host;x-amz-date",
            "753f6d72f8589e6bd13d881710024e4ca4d0b3a326fb81dd4d44413deaa249a9",
        ),
        (
            format!("{base}/{profile}/converse-stream"),
            (
                "eu-west-1",
                None,
                Some("FwoGZXIvYXdzEXAMPLETOKEN//////////=="),
            ),
            r#"{"messages":[{"role":"user","content":[{"text":"Grüße"}]}]}"#,
            "content-type;host;x-amz-date;x-amz-security-token",
            "3e54406e6d7b83a45124ff83e1be08285277bbbe34f334d6d87886d972d8cd49",
        ),
        (
            format!("{base}/a%20b~c/converse-stream"),
            ("eu-west-1", None, None),
            "",
            "content-type;host;x-amz-date",
            "b22043ee8c45e6321b2acf6d8d53dcf386b111331e9a6f497766dfadccbfa08b",
        ),
        (
            "http://127.0.0.1:8089/proxy/model/m/converse-stream".to_owned(),
            ("us-east-1", Some(("x-amzn-bedrock-trace", "ENABLED")), None),
            "{}",
            "content-type;host;x-amz-date;x-amzn-bedrock-trace",
            "db9b8eb96ea3479bb02963c5a262d28cb1b76661c7a68da7d1758e7a1c62f684",
        ),
    ];
    for (url, (region, more, token), body, signed, signature) in cases {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json".parse().unwrap());
        headers.insert("accept", "*/*".parse().unwrap());
        headers.insert("traceparent", "00-0-0-00".parse().unwrap());
        if let Some((name, value)) = more {
            headers.insert(name, value.parse().unwrap());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(TIME);
        let key = key("bedrock", region, token);
        let url = Url::parse(&url).unwrap();
        sign(&mut headers, &url, body.as_bytes(), &key, now).unwrap();
        assert_eq!(
            headers["authorization"],
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/{region}/bedrock/aws4_request, \
                 SignedHeaders={signed}, Signature={signature}"
            ),
            "{url}"
        );
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        let sent = headers.get("x-amz-security-token");
        assert_eq!(sent.map(|value| value.to_str().unwrap()), token);
    }
}

#[test]
fn no_secret_shows() {
    let key = key("bedrock", "eu-west-1", Some("t0ken"));
    let mut headers = HeaderMap::new();
    let url = Url::parse("http://127.0.0.1/").unwrap();
    sign(&mut headers, &url, b"", &key, SystemTime::now()).unwrap();
    let shown = format!("{key:?} {headers:?}");
    for secret in ["t0ken", "wJalr", "AKIDEXAMPLE", "Signature="] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
