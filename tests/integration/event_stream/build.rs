//! Messages of an AWS event stream, built. It shares nothing but the checksum with the framer that reads them.

/// One header. The types are numbered in
/// <https://smithy.io/2.0/aws/amazon-eventstream.html>.
pub enum Header<'a> {
    Text(&'a str, &'a str),
    Bytes(&'a str, &'a [u8]),
    Bool(&'a str, bool),
    /// A type whose values are all of one length.
    Plain(&'a str, u8, &'a [u8]),
    /// Bytes that need not be a header.
    Raw(&'a [u8]),
}

/// One message.
pub fn message(headers: &[Header<'_>], payload: &[u8]) -> Vec<u8> {
    let headers: Vec<u8> = headers.iter().flat_map(Header::bytes).collect();
    let size = |bytes: usize| u32::try_from(bytes).expect("a short message").to_be_bytes();
    let mut message = Vec::new();
    message.extend(size(16 + headers.len() + payload.len()));
    message.extend(size(headers.len()));
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message.extend(headers);
    message.extend(payload);
    message.extend(crc32fast::hash(&message).to_be_bytes());
    message
}

/// A message of JSON, as a service sends it: `kind` is `event` or `exception`.
pub fn named(kind: &str, name: &str, payload: &[u8]) -> Vec<u8> {
    let type_header = format!(":{kind}-type");
    let headers = [
        Header::Text(&type_header, name),
        Header::Text(":content-type", "application/json"),
        Header::Text(":message-type", kind),
    ];
    message(&headers, payload)
}

impl Header<'_> {
    fn bytes(&self) -> Vec<u8> {
        let short = |length: usize| u16::try_from(length).expect("a short value").to_be_bytes();
        let (name, kind, value) = match self {
            Self::Text(name, text) => {
                let value = [&short(text.len()), text.as_bytes()].concat();
                (name, 7, value)
            }
            Self::Bytes(name, bytes) => (name, 6, [&short(bytes.len()), *bytes].concat()),
            Self::Bool(name, value) => (name, u8::from(!value), Vec::new()),
            Self::Plain(name, kind, value) => (name, *kind, value.to_vec()),
            Self::Raw(bytes) => return bytes.to_vec(),
        };
        let mut bytes = vec![u8::try_from(name.len()).expect("a short name")];
        bytes.extend(name.as_bytes());
        bytes.push(kind);
        bytes.extend(value);
        bytes
    }
}
