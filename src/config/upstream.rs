//! Upstreams: their addresses and credentials.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

use super::connection::{self, ConnectionConfig};
use super::credential;
use super::expand::Environment;
use super::preset::{self, Preset};
use super::read::{Field, Reader, Section};
use super::schema;
use crate::model::{Credential, CredentialScheme, Message, Part, Request, Role, Vendor};
use crate::wire::{self, Wire};

/// Headers that only the gateway sets.
const RESERVED_HEADERS: &[HeaderName] = &[
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// One upstream.
#[derive(Clone)]
pub struct UpstreamConfig {
    /// Its name in the config.
    pub name: String,
    /// The preset that it is based on.
    pub preset: Option<&'static str>,
    pub wire: &'static dyn Wire,
    /// `http` or `https`, without user or fragment, with no query but an `api-version`, and without
    /// a trailing slash unless the path is nothing else.
    pub base_url: Url,
    /// The vendor's region, for vendors that have regions.
    pub region: Option<String>,
    pub credential: Option<Credential>,
    /// Headers that are sent with every request. Each value is marked sensitive.
    pub headers: HeaderMap,
    pub vendor: Vendor,
    /// Whether a client that speaks the upstream's protocol gets answers verbatim.
    pub verbatim: bool,
    pub connection: ConnectionConfig,
}

impl fmt::Debug for UpstreamConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .field("preset", &self.preset)
            .field("wire", &self.wire.name())
            .field("base_url", &self.base_url.as_str())
            .field("region", &self.region)
            .field("credential", &self.credential)
            .field("headers", &self.headers)
            .field("vendor", &self.vendor)
            .field("verbatim", &self.verbatim)
            .field("connection", &self.connection)
            .finish()
    }
}

/// The names of all upstreams in the file, with the upstream if it has no problem.
pub type DeclaredUpstreams<'a> = Vec<(&'a str, Option<Arc<UpstreamConfig>>)>;

/// Reads `upstreams`.
pub fn read<'a>(
    reader: &mut Reader,
    field: Option<&Field<'a>>,
    env: Environment<'_>,
) -> DeclaredUpstreams<'a> {
    let Some(field) = field else {
        return Vec::new();
    };
    let mut declared = Vec::new();
    for (name, field) in reader.entries(field) {
        if name.is_empty() || name.contains(char::is_control) {
            reader.add_problem(
                &field,
                "is not a valid upstream name: it must not be empty or contain control characters",
            );
            continue;
        }
        let upstream = read_one(reader, name, &field, env);
        declared.push((name, upstream.map(Arc::new)));
    }
    declared
}

fn read_one(
    reader: &mut Reader,
    name: &str,
    field: &Field<'_>,
    env: Environment<'_>,
) -> Option<UpstreamConfig> {
    let section = reader.section(field, schema::UPSTREAM);
    let preset = match section.get("preset") {
        Some(field) => match preset::by_name(reader.text(field)?) {
            Some(preset) => Some(preset),
            None => {
                let names = preset::ALL.iter().map(|preset| preset.name);
                reader.add_unknown_name(field, "preset", names);
                // Settings that do not depend on the preset are still checked.
                read_headers(reader, &section);
                connection::read(reader, &section);
                return None;
            }
        },
        None => preset::by_name(name),
    };
    // Everything is read before the function returns, so that every problem is reported.
    let wire_name = read_wire_name(reader, &section, preset);
    let scheme = preset.and_then(|preset| preset.credential);
    let scheme = scheme.or_else(|| Some(wire::by_name(wire_name?)?.credential()));
    let region = read_region(reader, &section, preset, scheme, env);
    let region = region.as_deref();
    let base_url = read_base_url(reader, &section, preset, wire_name, region);
    let credential = credential::read(reader, &section, preset, scheme, region, env);
    let headers = read_headers(reader, &section);
    let mut vendor = preset
        .map(|preset| preset.vendor.clone())
        .unwrap_or_default();
    if let Some(field) = section.get("think_tags") {
        let think_tags = reader.parse(field, |text| match text {
            "reasoning" => Ok(true),
            "text" => Ok(false),
            _ => Err("`reasoning` or `text`"),
        });
        vendor.think_tags = think_tags.unwrap_or(vendor.think_tags);
    }
    let fidelity = section.get("fidelity").and_then(|field| {
        reader.parse(field, |text| match text {
            "verbatim" => Ok(true),
            "repaired" => Ok(false),
            _ => Err("`verbatim` or `repaired`"),
        })
    });
    let connection = connection::read(reader, &section);
    let wire = wire::by_name(wire_name?)?;
    let keeps_to_protocol = preset.is_some_and(|preset| preset.keeps_to_protocol);
    let verbatim = fidelity.unwrap_or(keeps_to_protocol || !wire.has_look_alikes());
    if let (Some(field), Some(base_url)) = (section.get("base_url"), &base_url) {
        warn_of_wire_path(reader, field, base_url, wire);
    }
    Some(UpstreamConfig {
        name: name.to_owned(),
        preset: preset.map(|preset| preset.name),
        wire,
        base_url: base_url?,
        region: region.map(str::to_owned),
        credential,
        headers,
        vendor,
        verbatim,
        connection,
    })
}

fn read_wire_name<'a>(
    reader: &mut Reader,
    section: &Section<'a>,
    preset: Option<&Preset>,
) -> Option<&'a str> {
    match (section.get("wire"), preset) {
        (Some(field), _) => {
            let name = reader.text(field)?;
            if wire::by_name(name).is_some() {
                return Some(name);
            }
            reader.add_unknown_name(field, "wire", wire::ALL.iter().map(|wire| wire.name()));
            None
        }
        (None, Some(preset)) => Some(preset.wire),
        (None, None) => {
            let near = super::read::closest_name(
                section.field.path.rsplit('.').next().unwrap_or_default(),
                preset::ALL.iter().map(|preset| preset.name),
            );
            let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            reader.add_problem(
                &section.field.missing("wire"),
                format!("is missing; set `wire` or `preset`, because no preset has the upstream's name{hint}"),
            );
            None
        }
    }
}

/// Whether a region is needed: for the preset's address, or for signed requests.
fn has_region(preset: Option<&Preset>, scheme: Option<CredentialScheme>) -> bool {
    let in_address = |preset: &Preset| {
        preset
            .base_url
            .is_some_and(|base_url| base_url.contains("{region}"))
    };
    preset.is_some_and(in_address) || matches!(scheme, Some(CredentialScheme::SigV4 { .. }))
}

/// Reads `region`, or takes it from the environment.
fn read_region(
    reader: &mut Reader,
    section: &Section<'_>,
    preset: Option<&Preset>,
    scheme: Option<CredentialScheme>,
    env: Environment<'_>,
) -> Option<String> {
    let field = section.get("region");
    if !has_region(preset, scheme) {
        if let Some(field) = field {
            reader.add_problem(
                field,
                "has no effect here and must be removed: only `bedrock` upstreams have a region",
            );
        }
        return None;
    }
    // The region becomes part of a host name.
    let legal = |region: &str| {
        !region.is_empty()
            && region
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if let Some(field) = field {
        let region = reader.text(field)?;
        if !legal(region) {
            reader.add_problem(field, "is not a region such as `eu-west-1`");
            return None;
        }
        return Some(region.to_owned());
    }
    let (variable, region) = credential::region(env)?;
    if !legal(&region) {
        reader.add_problem(
            &section.field.missing("region"),
            format!(
                "is missing, and the environment variable {variable} is not a region such as `eu-west-1`"
            ),
        );
        return None;
    }
    Some(region)
}

fn read_base_url(
    reader: &mut Reader,
    section: &Section<'_>,
    preset: Option<&Preset>,
    wire: Option<&str>,
    region: Option<&str>,
) -> Option<Url> {
    if let Some(field) = section.get("base_url") {
        let text = reader.text(field)?;
        return match parse_base_url(text) {
            Ok(url) => Some(url),
            Err(why) => {
                // The value is not quoted in messages, because an address may contain a password.
                reader.add_problem(field, why);
                None
            }
        };
    }
    let known = preset.and_then(|preset| preset.base_url_of(wire?));
    let Some(known) = known else {
        // If the wire is unknown too, only that is reported.
        if wire.is_some() {
            let message = match preset {
                Some(preset) => format!(
                    "is missing; the preset `{}` has no default for this wire",
                    preset.name
                ),
                None => {
                    "is missing; set the address of the API, such as `https://api.example.com/v1`"
                        .to_owned()
                }
            };
            reader.add_problem(&section.field.missing("base_url"), message);
        }
        return None;
    };
    if !known.contains("{region}") {
        return parse_base_url(known).ok();
    }
    if region.is_none() && section.get("region").is_none() {
        reader.add_problem(
            &section.field.missing("region"),
            "is missing, and the environment variable AWS_REGION is not set; set one of them",
        );
    }
    parse_base_url(&known.replace("{region}", region?)).ok()
}

fn parse_base_url(text: &str) -> Result<Url, &'static str> {
    let mut url =
        Url::parse(text).map_err(|_| "is not a URL such as `https://api.example.com/v1`")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("must begin with `http://` or `https://`");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not have a user or password; use `api_key` or `headers`");
    }
    if !url.query().is_none_or(is_api_version) || url.fragment().is_some() {
        return Err("must not have a query or fragment, except an `api-version`");
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// Warns of an address that already contains the path that a wire adds.
fn warn_of_wire_path(
    reader: &mut Reader,
    field: &Field<'_>,
    base_url: &Url,
    wire: &'static dyn Wire,
) {
    let path = base_url.path().trim_end_matches('/');
    let ending = wire::ALL
        .iter()
        .filter_map(|wire| own_path(*wire))
        .find(|own| path.ends_with(own.as_str()));
    if let Some(ending) = ending {
        reader.add_warning(
            field,
            format!("ends in `{ending}`, which is the wire's own path and is added to every request; remove it"),
        );
        return;
    }
    // Such as `/v1` before `/v1/messages`.
    let own = own_path(wire).unwrap_or_default();
    let first = own.get(1..).and_then(|rest| rest.split_once('/'));
    let first = first.map(|(first, _)| format!("/{first}"));
    if let Some(first) = first.filter(|first| path.ends_with(first.as_str())) {
        reader.add_warning(
            field,
            format!("ends in `{first}`, with which the wire's own path `{own}` begins; remove it"),
        );
    }
}

/// The path that a wire adds to an address, up to the model's name if that is a part of it.
fn own_path(wire: &dyn Wire) -> Option<String> {
    const MODEL: &str = "any-model";
    let request = Request {
        model: MODEL.to_owned(),
        messages: vec![Message {
            field: "prompt".to_owned(),
            role: Role::User,
            content: vec![Part::Text("x".to_owned())],
        }],
        stream: true,
        ..Request::default()
    };
    let outgoing = wire.request(&request, MODEL, &Vendor::default()).ok()?;
    let path = outgoing.path.split(['?', '#']).next()?;
    let path = path.split(MODEL).next()?.trim_end_matches('/');
    (path.len() > 1).then(|| path.to_owned())
}

/// Azure's API before v1 needs `api-version=2024-10-21` with every request. Other queries may be
/// secrets, and addresses are printed.
fn is_api_version(query: &str) -> bool {
    query.strip_prefix("api-version=").is_some_and(|version| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        !version.is_empty() && version.len() <= 32 && version.bytes().all(legal)
    })
}

fn read_headers(reader: &mut Reader, section: &Section<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(field) = section.get("headers") else {
        return headers;
    };
    for (name, field) in reader.entries(field) {
        let Ok(header_name) = HeaderName::from_bytes(name.as_bytes()) else {
            reader.add_problem(&field, "is not a valid HTTP header name");
            continue;
        };
        if RESERVED_HEADERS.contains(&header_name) {
            reader.add_problem(
                &field,
                "must be removed: the gateway sets this header itself",
            );
            continue;
        }
        let Some(text) = reader.text(&field) else {
            continue;
        };
        let Ok(mut value) = HeaderValue::from_str(text) else {
            reader.add_problem(
                &field,
                "contains characters that are not allowed in an HTTP header",
            );
            continue;
        };
        value.set_sensitive(true);
        if headers.insert(header_name, value).is_some() {
            reader.add_problem(
                &field,
                "is defined twice: header names are not case-sensitive",
            );
        }
    }
    headers
}
