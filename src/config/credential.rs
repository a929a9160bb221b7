//! Credentials of upstreams: `api_key`, or for AWS the credentials in the environment.

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::expand::Environment;
use super::preset::Preset;
use super::read::{Field, Reader, Section};
use crate::model::{Credential, CredentialScheme, SigningKey};

/// An API key for Bedrock, under AWS's own name.
const BEARER_TOKEN: &str = "AWS_BEARER_TOKEN_BEDROCK";
const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// The variables in which AWS's own clients look for the region, in their order.
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];

/// Reads `api_key`. `scheme` is `None` if the upstream already has a problem. `region` is the
/// region that requests are signed for.
pub fn read(
    reader: &mut Reader,
    section: &Section<'_>,
    preset: Option<&Preset>,
    scheme: Option<CredentialScheme>,
    region: Option<&str>,
    env: Environment<'_>,
) -> Option<Credential> {
    let field = section.get("api_key");
    if let Some(field) = field
        && let Some(key) = reader.secret(field)
    {
        if !fits_a_header(&key) {
            reader.add_problem(
                field,
                "contains characters that are not allowed in an HTTP header",
            );
        }
        return Some(match scheme? {
            CredentialScheme::Bearer | CredentialScheme::SigV4 { .. } => Credential::Bearer(key),
            CredentialScheme::Header(name) => Credential::Header(name, key),
        });
    }
    // A bad value has already been reported; it is not missing.
    if !field.is_none_or(Field::is_blank) {
        return None;
    }
    let missing = section.field.missing("api_key");
    let at = field.unwrap_or(&missing);
    let what = if field.is_some() { "empty" } else { "missing" };
    // With another address, the vendor does not decide whether a key is needed. At Azure, a token
    // in `headers` works too.
    let elsewhere = section.get("base_url").is_some();
    let needed = preset.filter(|preset| preset.needs_key && !elsewhere);
    let Some(CredentialScheme::SigV4 { service }) = scheme else {
        if let Some(preset) = needed {
            reader.add_problem(
                at,
                format!("is {what}; the preset `{}` needs an API key", preset.name),
            );
        }
        return None;
    };
    match read_environment(env, service, region) {
        Ok(Some(credential)) => Some(credential),
        Ok(None) => {
            // This is only a warning, because a config is often checked in another environment than
            // it runs in.
            if let Some(preset) = needed {
                reader.add_warning(
                    at,
                    format!(
                        "is {what}, and {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY} are not set in the \
                         environment; `{}` will refuse every request",
                        preset.name
                    ),
                );
            }
            None
        }
        Err(problem) => {
            reader.add_problem(at, format!("is {what}, and {problem}"));
            None
        }
    }
}

/// The region in the environment and the variable that names it.
pub fn region(env: Environment<'_>) -> Option<(&'static str, String)> {
    REGIONS
        .into_iter()
        .find_map(|name| Some((name, non_empty(env, name)?)))
}

/// The credential in the environment, if any, or what is wrong with it.
fn read_environment(
    env: Environment<'_>,
    service: &'static str,
    region: Option<&str>,
) -> Result<Option<Credential>, String> {
    let secret = |name: &str| match non_empty(env, name).map(SecretString::from) {
        Some(secret) if !fits_a_header(&secret) => Err(format!(
            "the environment variable {name} contains characters that are not allowed in an HTTP header"
        )),
        secret => Ok(secret),
    };
    if let Some(token) = secret(BEARER_TOKEN)? {
        return Ok(Some(Credential::Bearer(token)));
    }
    let (access_key_id, secret_access_key) =
        match (secret(ACCESS_KEY_ID)?, secret(SECRET_ACCESS_KEY)?) {
            (Some(id), Some(key)) => (id, key),
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(incomplete_pair(ACCESS_KEY_ID, SECRET_ACCESS_KEY)),
            (None, Some(_)) => return Err(incomplete_pair(SECRET_ACCESS_KEY, ACCESS_KEY_ID)),
        };
    let Some(region) = region else {
        return Err("requests cannot be signed without a `region`; set one".to_owned());
    };
    Ok(Some(Credential::SigV4(SigningKey {
        access_key_id,
        secret_access_key,
        session_token: secret(SESSION_TOKEN)?,
        region: region.to_owned(),
        service,
    })))
}

fn incomplete_pair(there: &str, missing: &str) -> String {
    format!("the environment variable {there} is set, but {missing} is not")
}

/// The value of a variable that is set and not empty.
fn non_empty(env: Environment<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

fn fits_a_header(secret: &SecretString) -> bool {
    HeaderValue::from_str(secret.expose_secret()).is_ok()
}
