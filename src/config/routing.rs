//! How a model's targets are chosen: `strategy`, `affinity`, `retry`, `breaker` and `hedge`.

use std::time::Duration;

use http::HeaderName;

use super::read::{Reader, Section};
use super::schema;
use super::unit;

/// How a model's targets are chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingConfig {
    pub strategy: StrategyConfig,
    pub affinity: AffinityConfig,
    pub retry: RetryConfig,
    /// `None` for a breaker that never opens.
    pub breaker: Option<BreakerConfig>,
    pub hedge: Option<HedgeConfig>,
}

/// How targets of equal priority share requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrategyConfig {
    Weighted,
    Fastest,
}

/// Which requests belong to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AffinityConfig {
    /// What the clients' own protocols have for it.
    Auto,
    Off,
    /// Those with the same value of this header.
    Header(HeaderName),
}

/// When a target is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    /// At least 1, which is no second try.
    pub attempts: u32,
    pub backoff: Duration,
    pub max_backoff: Duration,
}

/// When a target that fails is not asked any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// At most [`MAX_FAILURES`].
    pub failures: u32,
    pub window: Duration,
    pub open: Duration,
}

/// After which silence a second target is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeConfig {
    After(Duration),
    P95,
}

/// The largest number of failures that a breaker counts.
pub const MAX_FAILURES: u32 = 100;

const MAX_ATTEMPTS: u32 = 10;
const DEFAULT_RETRY: RetryConfig = RetryConfig {
    attempts: 2,
    backoff: Duration::from_millis(250),
    max_backoff: Duration::from_secs(4),
};
const DEFAULT_BREAKER: BreakerConfig = BreakerConfig {
    failures: 5,
    window: Duration::from_secs(30),
    open: Duration::from_secs(15),
};

/// Reads the settings of one model.
pub fn read(reader: &mut Reader, section: &Section<'_>) -> RoutingConfig {
    let strategy = reader.setting(
        section,
        "strategy",
        StrategyConfig::Weighted,
        |text| match text {
            "weighted" => Ok(StrategyConfig::Weighted),
            "fastest" => Ok(StrategyConfig::Fastest),
            _ => Err("`weighted` or `fastest`"),
        },
    );
    RoutingConfig {
        strategy,
        affinity: reader.setting(section, "affinity", AffinityConfig::Auto, parse_affinity),
        retry: read_retry(reader, section),
        breaker: read_breaker(reader, section),
        hedge: read_hedge(reader, section),
    }
}

fn parse_affinity(text: &str) -> Result<AffinityConfig, &'static str> {
    const AFFINITY: &str = "`auto`, `off` or `header:` with the name of a header";
    match (text, text.strip_prefix("header:")) {
        ("auto", _) => Ok(AffinityConfig::Auto),
        ("off", _) => Ok(AffinityConfig::Off),
        (_, Some(name)) => {
            let name = name.trim().to_ascii_lowercase().parse();
            name.map(AffinityConfig::Header).map_err(|_| AFFINITY)
        }
        _ => Err(AFFINITY),
    }
}

fn read_retry(reader: &mut Reader, section: &Section<'_>) -> RetryConfig {
    let base = DEFAULT_RETRY;
    let Some(field) = section.get("retry") else {
        return base;
    };
    if field.is_word("off") {
        return RetryConfig {
            attempts: 1,
            ..base
        };
    }
    let section = reader.section(field, schema::RETRY);
    let attempts = |text: &str| match unit::parse_small_count(text) {
        Ok(count) if count <= MAX_ATTEMPTS => Ok(count),
        _ => Err("a whole number from 1 to 10"),
    };
    let retry = RetryConfig {
        attempts: reader.setting(&section, "attempts", base.attempts, attempts),
        backoff: reader.setting(&section, "backoff", base.backoff, unit::parse_duration),
        max_backoff: reader.setting(
            &section,
            "max_backoff",
            base.max_backoff,
            unit::parse_duration,
        ),
    };
    if retry.backoff > retry.max_backoff {
        reader.add_problem(
            field,
            "has a `backoff` that is longer than `max_backoff` (4s where it is not set)",
        );
    }
    retry
}

fn read_breaker(reader: &mut Reader, section: &Section<'_>) -> Option<BreakerConfig> {
    let base = DEFAULT_BREAKER;
    let Some(field) = section.get("breaker") else {
        return Some(base);
    };
    if field.is_word("off") {
        return None;
    }
    let section = reader.section(field, schema::BREAKER);
    let failures = |text: &str| match unit::parse_small_count(text) {
        Ok(count) if count <= MAX_FAILURES => Ok(count),
        _ => Err("a whole number from 1 to 100"),
    };
    Some(BreakerConfig {
        failures: reader.setting(&section, "failures", base.failures, failures),
        window: reader.setting(&section, "window", base.window, unit::parse_interval),
        open: reader.setting(&section, "open", base.open, unit::parse_interval),
    })
}

fn read_hedge(reader: &mut Reader, section: &Section<'_>) -> Option<HedgeConfig> {
    let field = section.get("hedge")?;
    if field.is_word("off") {
        return None;
    }
    let section = reader.section(field, schema::HEDGE);
    if section.get("after").is_none() {
        reader.add_problem(
            &section.field.missing("after"),
            "is missing; set the silence after which a second target is asked, such as `800ms`, or `p95`",
        );
    }
    let after = |text: &str| match text {
        "p95" => Ok(Some(HedgeConfig::P95)),
        _ => unit::parse_interval(text)
            .map(|after| Some(HedgeConfig::After(after)))
            .map_err(|_| "a duration above zero such as `800ms`, or `p95`"),
    };
    reader.setting(&section, "after", None, after)
}
