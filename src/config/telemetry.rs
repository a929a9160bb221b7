//! What is measured and traced.

use super::read::{Field, Reader};
use super::schema;
use super::unit;

/// What the metrics distinguish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MetricsConfig {
    /// Whether requests and tokens are counted for each API key.
    pub key: bool,
}

/// How traces are written. Where they go is said in the environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TracingConfig {
    pub names: SpanNames,
    /// Whether spans have prompts and answers.
    pub content: bool,
}

/// Which names the attributes of spans have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SpanNames {
    #[default]
    Latest,
    Legacy,
    Both,
}

/// Reads `metrics`.
pub fn read_metrics(reader: &mut Reader, field: Option<&Field<'_>>) -> MetricsConfig {
    let base = MetricsConfig::default();
    let Some(field) = field else {
        return base;
    };
    let section = reader.section(field, schema::METRICS);
    MetricsConfig {
        key: reader.setting(&section, "key", base.key, unit::parse_switch),
    }
}

/// Reads `tracing`.
pub fn read_tracing(reader: &mut Reader, field: Option<&Field<'_>>) -> TracingConfig {
    let Some(field) = field else {
        return TracingConfig::default();
    };
    let section = reader.section(field, schema::TRACING);
    let names = reader.setting(&section, "semconv", SpanNames::Latest, |text| match text {
        "latest" => Ok(SpanNames::Latest),
        "legacy" => Ok(SpanNames::Legacy),
        "both" => Ok(SpanNames::Both),
        _ => Err("`latest`, `legacy` or `both`"),
    });
    let content = reader.setting(&section, "content", false, unit::parse_switch);
    TracingConfig { names, content }
}
