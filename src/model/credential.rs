//! Credentials for upstreams. None of them shows in `Debug`.

use secrecy::SecretString;

/// A credential, and where it goes in a request.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `authorization: Bearer …`
    Bearer(SecretString),
    /// A header of its own, such as `x-api-key`.
    Header(&'static str, SecretString),
    /// It stays here; requests carry a signature made with it.
    SigV4(SigningKey),
}

/// What AWS's Signature Version 4 signs with and for.
#[derive(Debug, Clone)]
pub struct SigningKey {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    /// Temporary keys come with one, which is sent along.
    pub session_token: Option<SecretString>,
    /// Such as `eu-west-1`.
    pub region: String,
    /// AWS's name for the service, such as `bedrock`.
    pub service: &'static str,
}

impl Credential {
    /// Everything in it that must never be seen.
    pub fn secrets(&self) -> Vec<&SecretString> {
        match self {
            Self::Bearer(secret) | Self::Header(_, secret) => vec![secret],
            Self::SigV4(key) => [&key.secret_access_key, &key.access_key_id]
                .into_iter()
                .chain(&key.session_token)
                .collect(),
        }
    }
}
