//! The composition root: builds the objects that a configuration names, and replaces them on a reload
//! while open streams keep the ones they started with.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Caller, KeyRing};
use crate::config::{
    Config, HedgeConfig, ModelConfig, OnStoreFailure, RoutingConfig, StateConfig, StrategyConfig,
    TargetConfig, UpstreamConfig, preset,
};
use crate::limit::{Account, KeySettings, Limiter, MemoryBudget, Settings, SharedState};
use crate::metrics::Metrics;
use crate::model::{Error, ErrorCode, ReasoningSigner};
use crate::notify::{Notification, Notifications, Relay};
use crate::route::policy::{BreakerSettings, HedgeAfter, RetrySettings, Strategy};
use crate::route::{
    HealthTable, ModelSettings, Route, RoutedModel, Target, TargetHealth, Timeouts, stable_hash,
};
use crate::store::Store;
use crate::stream::{OpenStreams, OrphanQueue, Readers, Registry, Replicas};
use crate::telemetry::{Tracing, provider_name};
use crate::upstream::exchange::{
    ClientCertificate, Connector, Endpoint, Proxy, Reuse, custom_certificates, system_certificates,
};
use crate::upstream::{Recycler, Upstream};
use crate::wire::TargetSettings;

/// The gateway: the state that outlives a configuration, and the current configuration.
pub struct Gateway {
    pub metrics: Arc<Metrics>,
    /// What the requests of all configurations hold.
    pub memory: MemoryBudget,
    pub registry: Arc<Registry>,
    /// Streams of other replicas that this one is to continue.
    pub orphans: Arc<OrphanQueue>,
    /// Readers beside the streams' own clients.
    pub readers: Arc<Readers>,
    pub notifications: Arc<Notifications>,
    /// What is known of the targets.
    pub health: Arc<HealthTable>,
    pub open_streams: Arc<OpenStreams>,
    pub recycler: Recycler,
    /// Writes traces, where a receiver is configured. Set once, before the first request.
    pub tracing: OnceLock<Arc<Tracing>>,
    /// Every admitted request holds a token until its answer ends.
    pub in_flight: TaskTracker,
    /// Cancelled when a drain begins: new requests are refused.
    pub draining: CancellationToken,
    /// Cancelled at the end of a drain: streams that are still open end in an error.
    pub shutdown: CancellationToken,
    app: RwLock<Arc<App>>,
}

/// The objects of one configuration.
pub struct App {
    pub config: Config,
    pub keys: KeyRing,
    pub limiter: Limiter,
    /// The store that replicas share, where one is configured.
    pub store: Option<Arc<Store>>,
    /// The streams that replicas share, where a store is configured.
    pub replicas: Option<Arc<Replicas>>,
    /// Carries announcements to all replicas, where a store is configured.
    pub relay: Option<Arc<Relay>>,
    /// By the model's name in the configuration.
    models: HashMap<String, Model>,
}

/// What the requests for one model have in common.
struct Model {
    targets: Vec<ModelTarget>,
    policy: Arc<RoutedModel>,
    breaker: Option<BreakerSettings>,
}

struct ModelTarget {
    upstream: Arc<Upstream>,
    config: TargetConfig,
    id: u64,
    health: Arc<TargetHealth>,
    /// If its name is a pattern: has the health of each model that has answered.
    learned: Option<Arc<HealthTable>>,
}

/// What the objects of every configuration share.
struct Outlasting<'a> {
    metrics: &'a Arc<Metrics>,
    registry: &'a Arc<Registry>,
    orphans: &'a Arc<OrphanQueue>,
    notifications: &'a Arc<Notifications>,
    health: &'a Arc<HealthTable>,
}

impl Model {
    /// Whether its policy, with its budget, can be kept for a new configuration.
    fn fits(&self, settings: ModelSettings, targets: usize) -> bool {
        self.policy.settings() == settings && self.targets.len() == targets
    }
}

impl ModelTarget {
    fn new(config: &TargetConfig, upstream: Arc<Upstream>, table: &Arc<HealthTable>) -> Self {
        let pattern = config.pattern();
        Self {
            id: stable_hash([upstream.name.as_str(), pattern]),
            health: table.target(&upstream.name, pattern),
            learned: pattern.contains('*').then(|| Arc::clone(table)),
            config: config.clone(),
            upstream,
        }
    }

    /// The target for a request whose model's `*` matched `captured`.
    fn target(
        &self,
        captured: &str,
        max_tokens: Option<u64>,
        breaker: Option<BreakerSettings>,
        index: usize,
    ) -> Target {
        let model = self.config.model(captured).into_owned();
        let learned = self.learned.as_ref();
        let own = learned.and_then(|table| table.find(&self.upstream.name, &model));
        Target {
            upstream: Arc::clone(&self.upstream),
            settings: TargetSettings {
                reasoning: self.config.reasoning,
                max_tokens,
            },
            index,
            priority: self.config.priority,
            weight: self.config.weight,
            id: self.id,
            unlearned: learned.filter(|_| own.is_none()).cloned(),
            health: own.unwrap_or_else(|| Arc::clone(&self.health)),
            breaker,
            model,
        }
    }
}

impl Gateway {
    /// # Errors
    /// If the system's certificates cannot be read, so that no upstream can be reached.
    pub fn new(config: Config) -> Result<Self, rustls::Error> {
        let (metrics, registry) = (Arc::<Metrics>::default(), Arc::default());
        let orphans = Arc::default();
        let memory = MemoryBudget::new(config.limits.memory, Arc::clone(&metrics));
        let notifications = Arc::new(Notifications::new(Arc::clone(&metrics)));
        let health = HealthTable::new(Arc::clone(&metrics), Arc::clone(&notifications));
        let health = Arc::new(health);
        let outlasting = Outlasting {
            metrics: &metrics,
            registry: &registry,
            orphans: &orphans,
            notifications: &notifications,
            health: &health,
        };
        metrics.set_key_label(config.metrics.key);
        let app = App::new(config, None, &outlasting)?;
        Ok(Self {
            metrics,
            memory,
            registry,
            orphans,
            readers: Arc::default(),
            notifications,
            health,
            open_streams: Arc::default(),
            recycler: Recycler::default(),
            tracing: OnceLock::new(),
            in_flight: TaskTracker::new(),
            draining: CancellationToken::new(),
            shutdown: CancellationToken::new(),
            app: RwLock::new(Arc::new(app)),
        })
    }

    /// The current configuration. A request takes it once and keeps it.
    pub fn app(&self) -> Arc<App> {
        let app = self.app.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&app)
    }

    /// Replaces the configuration. Open streams keep theirs; limits that did not change keep their
    /// counts.
    ///
    /// # Errors
    /// As [`Gateway::new`]; the old configuration stays current.
    pub fn reload(&self, config: Config) -> Result<(), rustls::Error> {
        let outlasting = Outlasting {
            metrics: &self.metrics,
            registry: &self.registry,
            orphans: &self.orphans,
            notifications: &self.notifications,
            health: &self.health,
        };
        let app = App::new(config, Some(&self.app()), &outlasting)?;
        self.health
            .retain(|upstream, model| app.config.has_target(upstream, model));
        self.memory.set_limit(app.config.limits.memory);
        self.metrics.set_key_label(app.config.metrics.key);
        *self.app.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(app);
        self.notifications.publish(&Notification::ConfigReloaded);
        Ok(())
    }

    /// Measures the memory of the streams' logs, for the metrics.
    pub fn record_stream_buffer(&self) {
        let bytes = self.open_streams.log_bytes() + self.registry.held_bytes();
        self.metrics.set_stream_buffer(bytes);
    }

    /// Refuses new requests, and sends listeners to other replicas.
    pub fn begin_drain(&self) {
        self.draining.cancel();
        let seconds = self.app().config.drain.as_secs();
        self.notifications
            .publish(&Notification::Draining { seconds });
        self.notifications.close();
    }
}

impl App {
    fn new(
        config: Config,
        before: Option<&Self>,
        outlasting: &Outlasting<'_>,
    ) -> Result<Self, rustls::Error> {
        let metrics = outlasting.metrics;
        let certificates = system_certificates()?;
        let mut upstreams: HashMap<(&str, Duration), Arc<Upstream>> = HashMap::new();
        let mut models = HashMap::new();
        for model in config.models.iter() {
            let connect = model.timeouts.connect;
            let mut targets = Vec::with_capacity(model.targets.len());
            for target in &model.targets {
                let entry = upstreams.entry((&target.upstream.name, connect));
                let upstream = match entry {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let connector = connector(&target.upstream, &certificates, connect)?;
                        let cap = config.limits.frame;
                        new.insert(build_upstream(&target.upstream, &connector, cap))
                    }
                };
                let upstream = Arc::clone(upstream);
                targets.push(ModelTarget::new(target, upstream, outlasting.health));
            }
            let settings = model_settings(&model.routing);
            let old = before.and_then(|before| before.models.get(&model.name));
            let old = old.filter(|old| old.fits(settings, targets.len()));
            let new = || RoutedModel::new(settings, targets.len(), rand::random());
            let model_routes = Model {
                policy: old.map_or_else(|| Arc::new(new()), |old| Arc::clone(&old.policy)),
                breaker: settings.breaker,
                targets,
            };
            models.insert(model.name.clone(), model_routes);
        }
        let settings = limiter_settings(&config);
        let store = shared_store(&config, before, metrics);
        let state = store.as_ref().map(|store| SharedState {
            store: Arc::clone(store),
            metrics: Arc::clone(metrics),
            deny: config.on_store_failure == OnStoreFailure::Deny,
        });
        Ok(Self {
            keys: KeyRing::new(config.keys.as_deref()),
            limiter: match before {
                Some(before) => before.limiter.reconfigured(&settings, state),
                None => Limiter::new(&settings, state, Arc::clone(metrics)),
            },
            replicas: shared_replicas(&config, before, store.as_ref(), outlasting),
            relay: shared_relay(before, store.as_ref(), outlasting),
            store,
            models,
            config,
        })
    }

    fn has_store(&self, store: &Arc<Store>) -> bool {
        let own = self.store.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(own, store))
    }

    /// The caller's account in the limiter; callers without a key have none.
    pub fn account(&self, caller: &Caller) -> Option<Account> {
        self.limiter.account(&caller.name)
    }

    /// The model that clients call `name`, and the route of its requests.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`]; [`ErrorCode::Forbidden`] where `caller` may not use it.
    pub fn route(&self, name: &str, caller: &Caller) -> Result<(&ModelConfig, Route), Error> {
        if !caller.may_use(name) {
            return Err(Error::new(
                ErrorCode::Forbidden,
                format!(
                    "this API key may not use the model `{}`; GET /v1/models lists the models that it may use",
                    truncate_name(name)
                ),
            ));
        }
        let Some((model, captured)) = self.config.models.find(name) else {
            return Err(Error::new(
                ErrorCode::NotFound,
                format!(
                    "there is no model `{}`; GET /v1/models lists the models",
                    truncate_name(name)
                ),
            ));
        };
        let Some(routed) = self.models.get(&model.name) else {
            return Err(Error::new(ErrorCode::Internal, "the model has no targets"));
        };
        let targets = routed.targets.iter().enumerate();
        let targets = targets.map(|(index, target)| {
            target.target(captured, model.max_tokens, routed.breaker, index)
        });
        let route = Route {
            model: model.name.clone(),
            targets: targets.collect(),
            timeouts: Timeouts {
                first_token: model.timeouts.first_token,
                idle: model.timeouts.idle,
                total: model.timeouts.total,
            },
            policy: Arc::clone(&routed.policy),
            session: None,
            is_continuation: false,
        };
        Ok((model, route))
    }
}

fn model_settings(config: &RoutingConfig) -> ModelSettings {
    let (retry, breaker) = (config.retry, config.breaker);
    ModelSettings {
        strategy: match config.strategy {
            StrategyConfig::Weighted => Strategy::Weighted,
            StrategyConfig::Fastest => Strategy::Fastest,
        },
        retry: RetrySettings {
            attempts: retry.attempts,
            backoff: retry.backoff,
            max_backoff: retry.max_backoff,
        },
        breaker: breaker.map(|breaker| BreakerSettings {
            failures: breaker.failures,
            window: breaker.window,
            open: breaker.open,
        }),
        hedge: config.hedge.map(|hedge| match hedge {
            HedgeConfig::After(after) => HedgeAfter::Fixed(after),
            HedgeConfig::P95 => HedgeAfter::P95,
        }),
    }
}

/// Builds an upstream from its configuration.
pub fn build_upstream(
    upstream: &UpstreamConfig,
    connector: &Connector,
    frame_cap: usize,
) -> Arc<Upstream> {
    Arc::new(Upstream {
        name: upstream.name.clone(),
        wire: upstream.wire,
        base_url: upstream.base_url.as_str().trim_end_matches('/').to_owned(),
        credential: upstream.credential.clone(),
        headers: upstream.headers.clone(),
        vendor: upstream.vendor.clone(),
        provider: provider_name(upstream.preset, upstream.wire.name()),
        verbatim: upstream.verbatim,
        signer: ReasoningSigner::new(
            upstream.wire.name(),
            upstream.preset.unwrap_or(&upstream.name),
        )
        .with_members(upstream.wire.signature_members())
        .with_family(&preset::signature_family(upstream.preset)),
        endpoint: Endpoint::new(&upstream.base_url, connector),
        frame_cap,
    })
}

/// How connections to `upstream` are opened. `certificates` trusts the system's certificates.
///
/// # Errors
/// If the upstream's own certificates cannot be used.
pub fn connector(
    upstream: &UpstreamConfig,
    certificates: &Arc<ClientConfig>,
    timeout: Duration,
) -> Result<Connector, rustls::Error> {
    let connection = &upstream.connection;
    let ca = connection.ca.as_ref().map(|ca| &*ca.certificates);
    let client = connection.client_cert.as_ref();
    let identity = client.map(|client| ClientCertificate {
        chain: client.chain.clone(),
        key: client.private_key.clone_key(),
    });
    let custom = match (ca, identity) {
        (None, None) => None,
        (ca, identity) => Some(custom_certificates(
            ca.unwrap_or_default(),
            identity.as_ref(),
        )?),
    };
    let tls = custom.as_ref().unwrap_or(certificates);
    let proxy = connection.proxy.as_ref().map(|proxy| Proxy {
        address: proxy.url.clone(),
        authorization: proxy.authorization.clone(),
    });
    let reuse = connection.reuse.map(|reuse| Reuse {
        requests: reuse.requests,
        age: reuse.age,
    });
    Ok(Connector::new(tls, timeout).proxy(proxy).reuse(reuse))
}

/// What shares streams through `store`; the same as before where that is the same store.
fn shared_replicas(
    config: &Config,
    before: Option<&App>,
    store: Option<&Arc<Store>>,
    outlasting: &Outlasting<'_>,
) -> Option<Arc<Replicas>> {
    let store = store?;
    if let Some(replicas) = before
        .filter(|before| before.has_store(store))
        .and_then(|before| before.replicas.clone())
    {
        return Some(replicas);
    }
    Some(Arc::new(Replicas::new(
        Arc::clone(store),
        Arc::clone(outlasting.registry),
        Arc::clone(outlasting.orphans),
        Arc::clone(outlasting.metrics),
        config.resume.buffer,
        config.resume.window,
    )))
}

/// What carries announcements through `store`; the same as before where that is the same store.
fn shared_relay(
    before: Option<&App>,
    store: Option<&Arc<Store>>,
    outlasting: &Outlasting<'_>,
) -> Option<Arc<Relay>> {
    let store = store?;
    let before = before.filter(|before| before.has_store(store));
    let relay = || Relay::new(Arc::clone(store), Arc::clone(outlasting.notifications));
    Some(
        before
            .and_then(|before| before.relay.clone())
            .unwrap_or_else(|| Arc::new(relay())),
    )
}

/// The store that the configuration names; the same connection as before if nothing of it changed.
fn shared_store(
    config: &Config,
    before: Option<&App>,
    metrics: &Arc<Metrics>,
) -> Option<Arc<Store>> {
    let StateConfig::Shared(shared) = &config.state else {
        return None;
    };
    let kept = before.and_then(|before| match &before.config.state {
        StateConfig::Shared(old) if old == shared => before.store.clone(),
        StateConfig::Shared(_) | StateConfig::Memory => None,
    });
    let connect = || Store::new(shared.servers.clone(), Arc::clone(metrics));
    Some(kept.unwrap_or_else(|| Arc::new(connect())))
}

fn limiter_settings(config: &Config) -> Settings {
    let keys = config.keys.iter().flatten();
    Settings {
        streams: Some(config.limits.streams),
        per_address: config.limits.per_ip,
        keys: keys
            .map(|key| KeySettings {
                name: key.name.clone(),
                requests: key.limits.requests,
                tokens: key.limits.tokens,
                streams: key.limits.streams,
            })
            .collect(),
        ..Settings::default()
    }
}

/// A client's name for a model, shortened for a message.
fn truncate_name(name: &str) -> &str {
    &name[..name.floor_char_boundary(200)]
}
