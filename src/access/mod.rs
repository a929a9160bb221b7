//! API keys: who sends a request, and which models they may use.
//!
//! Keys are random, so their SHA-256 identifies them and reveals nothing. A lookup uses the first
//! bytes of the hash and then compares all of it in constant time. Its time can reveal the first
//! bytes of a hash, from which no key can be made.

mod generate;

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{Glob, KeyConfig, KeyLimitsConfig};

pub use generate::{NewKey, generate};

/// The sender of a request: the holder of one key, or anybody if no keys are configured.
#[derive(Debug, PartialEq, Eq)]
pub struct Caller {
    /// The key's name in the config; `anonymous` if no keys are configured.
    pub name: String,
    pub limits: KeyLimitsConfig,
    models: Option<Vec<Glob>>,
}

/// All keys of one config.
#[derive(Debug)]
pub enum KeyRing {
    /// No keys are configured: every request has this caller.
    Open(Arc<Caller>),
    Keys(Keys),
}

/// Keys by their hashes.
#[derive(Debug)]
pub struct Keys(HashMap<[u8; PREFIX], Vec<(Hash, Arc<Caller>)>>);

type Hash = [u8; 32];

/// How many bytes of a hash select its bucket: enough that a bucket holds one key.
const PREFIX: usize = 4;

impl Caller {
    /// Whether the caller may use only some models.
    pub fn is_restricted(&self) -> bool {
        self.models.is_some()
    }

    /// Whether the caller may use the model with this name, as clients write it.
    pub fn may_use(&self, model: &str) -> bool {
        self.models
            .as_ref()
            .is_none_or(|globs| globs.iter().any(|glob| glob.matches(model)))
    }
}

impl KeyRing {
    /// The keys of a config; `None`: it configures none.
    pub fn new(keys: Option<&[KeyConfig]>) -> Self {
        let Some(keys) = keys else {
            return Self::Open(Arc::new(Caller {
                name: "anonymous".to_owned(),
                limits: KeyLimitsConfig::default(),
                models: None,
            }));
        };
        let mut buckets: HashMap<_, Vec<_>> = HashMap::new();
        for key in keys {
            let caller = Caller {
                name: key.name.clone(),
                limits: key.limits,
                models: key.models.clone(),
            };
            buckets
                .entry(prefix(&key.sha256))
                .or_default()
                .push((key.sha256, Arc::new(caller)));
        }
        Self::Keys(Keys(buckets))
    }

    /// The holder of this key. `None`: the key is missing or wrong. If no keys are configured, every
    /// key is accepted.
    pub fn authenticate(&self, presented: Option<&str>) -> Option<&Arc<Caller>> {
        match self {
            Self::Open(caller) => Some(caller),
            Self::Keys(keys) => keys.find(presented?),
        }
    }

    /// The holder of the key with this name.
    pub fn find_by_name(&self, name: &str) -> Option<&Arc<Caller>> {
        match self {
            Self::Open(caller) => Some(caller).filter(|caller| caller.name == name),
            Self::Keys(keys) => keys.find_by_name(name),
        }
    }
}

impl Keys {
    fn find_by_name(&self, name: &str) -> Option<&Arc<Caller>> {
        let mut callers = self.0.values().flatten().map(|(_, caller)| caller);
        callers.find(|caller| caller.name == name)
    }

    fn find(&self, presented: &str) -> Option<&Arc<Caller>> {
        let hash = hash(presented);
        self.0
            .get(&prefix(&hash))?
            .iter()
            .find(|(known, _)| known.ct_eq(&hash).into())
            .map(|(_, caller)| caller)
    }
}

/// SHA-256 of a key.
pub fn hash(key: &str) -> Hash {
    Sha256::digest(key.as_bytes()).into()
}

fn prefix(hash: &Hash) -> [u8; PREFIX] {
    std::array::from_fn(|index| hash[index])
}
