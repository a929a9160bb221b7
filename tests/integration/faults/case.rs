//! One row in one dialect: its upstreams, and its part of the config.

use std::sync::Arc;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;

use super::table::{Ask, Place, Row, Scripts, Step};
use super::upstream::{Counts, Journal, Upstream};
use crate::fixture_server::ANY_PORT;
use crate::gateway::deadlines::blackhole;

/// One row, in one dialect.
pub struct Case {
    /// The model's name; those of the upstreams begin with it.
    pub model: String,
    pub row: Arc<Row>,
    pub steps: Vec<Step>,
    pub journal: Journal,
    upstreams: Vec<Upstream>,
    /// Keep their addresses in use.
    sockets: Vec<Socket>,
    /// The parts of the config: upstreams and models.
    pub config: Value,
}

impl Row {
    /// The steps in each dialect.
    pub fn cases(&self) -> Vec<(String, Vec<Step>)> {
        if self.dialects.is_empty() {
            return vec![(String::new(), self.steps.clone())];
        }
        let cases = self.dialects.iter().map(|(dialect, expect)| {
            let ask = Ask {
                dialect: Some(dialect.clone()),
                expect: expect.clone(),
                ..Ask::default()
            };
            (dialect.clone(), vec![Step::Ask(ask)])
        });
        cases.collect()
    }
}

impl Case {
    pub async fn prepare(
        model: String,
        row: &Arc<Row>,
        steps: Vec<Step>,
        scripts: &Scripts,
    ) -> Self {
        let (journal, _) = watch::channel(vec![Counts::default(); row.targets.len()]);
        let journal = Arc::new(journal);
        let mut case = Self {
            model,
            row: Arc::clone(row),
            steps,
            journal,
            upstreams: Vec::new(),
            sockets: Vec::new(),
            config: json!({"upstreams": {}, "models": {}}),
        };
        for place in 0..row.targets.len() {
            let base_url = case.base_url(place, scripts).await;
            let mut upstream = json!({"wire": "openai-chat", "base_url": base_url});
            let settings = row.targets[place].upstream.clone();
            upstream.as_object_mut().unwrap().extend(settings);
            let name = case.upstream(place);
            case.config["upstreams"][name] = upstream;
        }
        let others = row.other.iter().map(|other| ("other", other));
        for (name, settings) in [("m", &row.model)].into_iter().chain(others) {
            let mut settings = settings.clone();
            settings.insert("targets".to_owned(), case.targets());
            let name = case.name(name);
            case.config["models"][name] = settings.into();
        }
        case
    }

    /// The address of the upstream in this place, which is served from now on.
    async fn base_url(&mut self, place: usize, scripts: &Scripts) -> String {
        let target = &self.row.targets[place];
        let find = |name: &String| match scripts.get(name) {
            Some(script) => script.clone(),
            None => panic!("no script `{name}` in scripts.yaml"),
        };
        let found = target.scripts.iter().map(find).collect();
        if target.at == Place::Blackhole {
            let (addr, sockets) = blackhole();
            self.sockets.extend(sockets);
            return format!("http://{addr}/v1");
        }
        if target.at == Place::Refused {
            // It is bound, so that no other test gets the port, and does not listen.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&ANY_PORT.into()).unwrap();
            let addr = socket.local_addr().unwrap().as_socket().unwrap();
            self.sockets.push(socket);
            return format!("http://{addr}/v1");
        }
        let upstream = Upstream::serve(place, target.at, found, &self.journal).await;
        let addr = upstream.addr;
        let port = addr.port();
        self.upstreams.push(upstream);
        match target.at {
            Place::UnknownHost => format!("http://nowhere.invalid:{port}/v1"),
            Place::NoTls | Place::SilentTls => format!("https://{addr}/v1"),
            Place::SecondAddress => format!("http://two-addresses.test:{port}/v1"),
            _ => format!("http://{addr}/v1"),
        }
    }

    fn targets(&self) -> Value {
        let targets = self.row.targets.iter().enumerate();
        let targets = targets.map(|(place, target)| {
            json!({
                "upstream": self.upstream(place),
                "model": "text",
                "priority": target.priority.unwrap_or(place as u32),
                "weight": target.weight.unwrap_or(1),
            })
        });
        targets.collect()
    }

    /// The name of an upstream in the config.
    fn upstream(&self, place: usize) -> String {
        let letter = char::from(b'a' + place as u8);
        format!("{}-{letter}", self.model)
    }

    /// The name of a model in the config.
    pub fn name(&self, model: &str) -> String {
        match model {
            "m" => self.model.clone(),
            other => format!("{}-{other}", self.model),
        }
    }

    /// The names in a text as the table has them.
    pub fn short(&self, text: &str) -> String {
        let text = text.replace(&format!("{}-", self.model), "");
        text.replace("/text=", "=")
    }

    /// A series of the table, with the names of the config.
    pub fn series(&self, series: &str) -> String {
        let mut series = format!("sluicegate_{series}");
        for name in ["m", "other"] {
            let label = format!("model=\"{name}\"");
            series = series.replace(&label, &format!("model=\"{}\"", self.name(name)));
        }
        series.replace("upstream=\"", &format!("upstream=\"{}-", self.model))
    }
}
