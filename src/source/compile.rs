//! From tables to a source: the layers are stacked, every text is compiled, everything wrong is found at once.

use super::Source;
use super::answers::Answers;
use super::entry::{self, Credentials};
use super::find::{self, Finder, Finders, Path};
use super::fold::fold;
use super::layers::{Compiler, Place, RequesterMap, TicketMap};
use super::presets::{self, Preset};
use super::problem::{Layer, Origin, Problem};
use super::rule::{self, Effects, Rule};
use super::table::{FinderTable, RequesterTable, SourceTable, Text, TicketTable};
use super::template::{Engine, Template};
use super::times::Zones;
use super::{phone, words};
use crate::clock::zone::Zone;
use crate::verify::{Scheme, Verifier};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// The tables of a source, lowest first.
pub(super) type Stack<'a> = Vec<(Layer, &'a SourceTable)>;

impl Source {
    /// Compiles a source. `admin` is its `[source.<name>]` table, `ticket_defaults` the file's `[ticket]`,
    /// `credentials` what `admin.secret` and `admin.verify_token` refer to, already read. A mistake in `[ticket]` is found by every source.
    pub fn compile(
        name: &str,
        admin: &SourceTable,
        ticket_defaults: &TicketTable,
        credentials: impl Into<Credentials>,
    ) -> Result<Source, Vec<Problem>> {
        let preset = find_preset(admin)?;
        let mut stack: Stack<'_> = vec![(Layer::Builtin, presets::builtin())];
        stack.extend(preset.map(|preset| (Layer::Preset, preset.table())));
        stack.push((Layer::Admin, admin));

        let finders = finders(&stack);
        let mut problems = Vec::new();
        let country = country(&stack, &mut problems);
        let zones = zones(&stack, ticket_defaults, &mut problems);
        let mut compiler = Compiler {
            engine: Engine::new(country, zones),
            finders: finders.keys().cloned().collect(),
            problems,
            origins: BTreeMap::new(),
        };
        let verifier = entry::verifier(&mut compiler, &stack, credentials.into());
        let effects = effects(&mut compiler, &stack, ticket_defaults);
        let texts = Texts::compile(&mut compiler, &stack);
        let requester = requester(&mut compiler, &stack, "requester", |table| table.requester.as_ref());
        let fallback = requester_if_any(&mut compiler, &stack, "fallback_requester", |table| {
            table.fallback_requester.as_ref()
        });
        let rules = rules(&mut compiler, &stack, &effects);
        let windows = windows(&mut compiler, &stack);
        let (Some(texts), true) = (texts, compiler.problems.is_empty()) else {
            return Err(compiler.problems);
        };
        Ok(Source {
            name: name.to_owned(),
            preset: preset.map(|preset| preset.name),
            certainty: preset.map(Preset::certainty),
            verifier: verifier.unwrap_or_else(|| Verifier::new(Scheme::Bearer, Vec::new())),
            country,
            texts,
            windows,
            finders: Arc::new(finders),
            answers: last(&stack, |table| table.answers.as_ref()).map(|(_, table)| Answers::of(table)),
            requester,
            fallback,
            effects,
            rules,
            origins: compiler.origins,
            engine: compiler.engine,
        })
    }
}

fn find_preset(admin: &SourceTable) -> Result<Option<&'static Preset>, Vec<Problem>> {
    let Some(name) = &admin.preset else { return Ok(None) };
    presets::preset(name.get_ref()).map(Some).ok_or_else(|| {
        let names: Vec<&str> = presets::presets().iter().map(|preset| preset.name).collect();
        vec![Problem {
            origin: Origin { layer: Layer::Admin, at: Some(name.span()) },
            key: "preset".to_owned(),
            what: format!("there is no preset \"{}\"", name.get_ref()),
            help: Some(format!("presets: {}", names.join(", "))),
            within: None,
        }]
    })
}

/// The value of the highest layer that has one.
pub(super) fn last<'a, T>(
    stack: &Stack<'a>,
    get: impl Fn(&'a SourceTable) -> Option<&'a T>,
) -> Option<(Layer, &'a T)> {
    stack.iter().rev().find_map(|(layer, table)| get(table).map(|value| (*layer, value)))
}

fn country(stack: &Stack<'_>, problems: &mut Vec<Problem>) -> Option<&'static phone::Country> {
    let (layer, code) = last(stack, |table| table.country.as_ref())?;
    let country = phone::find_country(code.get_ref());
    if country.is_none() {
        problems.push(Problem {
            origin: Origin { layer, at: Some(code.span()) },
            key: "country".to_owned(),
            what: "expected a country of two letters that we know the numbers of".to_owned(),
            help: Some(format!("countries: {}", phone::codes())),
            within: None,
        });
    }
    country
}

/// The zone agents read times in, and the one the platform writes them in.
fn zones(stack: &Stack<'_>, defaults: &TicketTable, problems: &mut Vec<Problem>) -> Zones {
    let mut zone = |key: &str, (layer, name): (Layer, &Spanned<String>)| {
        let zone = Zone::find(name.get_ref());
        if zone.is_none() {
            problems.push(Problem {
                origin: Origin { layer, at: Some(name.span()) },
                key: key.to_owned(),
                what: "expected a zone that this machine knows".to_owned(),
                help: Some(
                    "\"America/Bogota\" (files of the package tzdata), \"UTC\" or \"-05:00\"".to_owned(),
                ),
                within: None,
            });
        }
        zone
    };
    let of_tickets = last(stack, |table| table.ticket.as_ref()?.time_zone.as_ref());
    let of_tickets = of_tickets.or(defaults.time_zone.as_ref().map(|name| (Layer::TicketDefaults, name)));
    let shown = of_tickets.and_then(|name| zone("ticket.time_zone", name)).unwrap_or_else(Zone::utc);
    let written = last(stack, |table| table.time_zone.as_ref()).and_then(|name| zone("time_zone", name));
    Zones { written: written.unwrap_or_else(|| shown.clone()), shown }
}

/// Finders key by key: a layer that gives only paths leaves the synonyms of the layer below.
fn finders(stack: &Stack<'_>) -> Finders {
    let names: BTreeSet<&String> =
        stack.iter().filter_map(|(_, table)| table.find.as_ref()).flat_map(BTreeMap::keys).collect();
    let finder = |name: &String| {
        let texts = |get: fn(&FinderTable) -> Option<&Vec<Text>>| -> Vec<&str> {
            let found = last(stack, |table| table.find.as_ref()?.get(name).and_then(get));
            found.map_or(Vec::new(), |(_, texts)| texts.iter().map(|text| text.get_ref().as_str()).collect())
        };
        let mut synonyms = std::collections::HashMap::new();
        for (rank, synonym) in texts(|table| table.synonyms.as_ref()).iter().enumerate() {
            synonyms.entry(fold(synonym)).or_insert(rank);
        }
        Finder {
            name: name.clone(),
            paths: texts(|table| table.paths.as_ref()).into_iter().map(Path::parse).collect(),
            synonyms,
            within: texts(|table| table.within.as_ref()).into_iter().map(Path::parse).collect(),
            skip: texts(|table| table.skip.as_ref()).into_iter().map(fold).collect(),
        }
    };
    names.into_iter().map(|name| (name.clone(), finder(name))).collect()
}

fn ticket(compiler: &mut Compiler, stack: &Stack<'_>, defaults: &TicketTable) -> TicketMap {
    let mut layers: Vec<(Layer, &TicketTable)> =
        stack.iter().filter_map(|(layer, table)| Some((*layer, table.ticket.as_ref()?))).collect();
    layers.push((Layer::TicketDefaults, defaults));
    layers.sort_by_key(|(layer, _)| *layer);
    let mut map = TicketMap::default();
    for (layer, table) in layers {
        map.overlay(compiler.ticket(Place { layer, table: "ticket" }, table));
    }
    map
}

fn requester<'a>(
    compiler: &mut Compiler,
    stack: &Stack<'a>,
    key: &str,
    get: impl Fn(&'a SourceTable) -> Option<&'a RequesterTable>,
) -> RequesterMap {
    let mut map = RequesterMap::default();
    for (layer, table) in stack {
        if let Some(table) = get(table) {
            map.overlay(compiler.requester(Place { layer: *layer, table: key }, table));
        }
    }
    map
}

fn requester_if_any<'a>(
    compiler: &mut Compiler,
    stack: &Stack<'a>,
    key: &str,
    get: impl Fn(&'a SourceTable) -> Option<&'a RequesterTable>,
) -> Option<RequesterMap> {
    stack.iter().any(|(_, table)| get(table).is_some()).then(|| requester(compiler, stack, key, get))
}

/// The texts that say what an event is.
pub(super) struct Texts {
    pub keep_if: Option<Arc<Template>>,
    pub split: Option<String>,
    pub kind: Arc<Template>,
    pub event_id: Arc<Template>,
    pub conversation: Arc<Template>,
}

impl Texts {
    fn compile(compiler: &mut Compiler, stack: &Stack<'_>) -> Option<Texts> {
        let place = |layer| Place { layer, table: "" };
        let keep_if = last(stack, |table| table.keep_if.as_ref());
        let keep_if = keep_if.and_then(|(layer, text)| compiler.condition(place(layer), "keep_if", text));
        let split = last(stack, |table| table.split.as_ref());
        let split = split.and_then(|(layer, text)| match find::listed_path(text.get_ref()) {
            Some(_) => Some(text.get_ref().clone()),
            None => compiler.expression(place(layer), "split", text),
        });
        let mut template = |key: &str, text: Option<(Layer, &Text)>| {
            text.and_then(|(layer, text)| compiler.template(place(layer), key, text))
        };
        let kind = template("kind", last(stack, |table| table.kind.as_ref()));
        let event_id = template("event_id", last(stack, |table| table.event_id.as_ref()));
        let conversation = template("conversation", last(stack, |table| table.conversation.as_ref()));
        Some(Texts { keep_if, split, kind: kind?, event_id: event_id?, conversation: conversation? })
    }
}

/// How long ids and content hashes are remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    pub id: Duration,
    pub hash: Duration,
}

fn windows(compiler: &mut Compiler, stack: &Stack<'_>) -> Windows {
    let mut window = |key: &str, text: Option<(Layer, &Spanned<String>)>| {
        let Some((layer, text)) = text else { return Duration::ZERO };
        compiler.origin((layer, key), Some(text.span()));
        words::duration(text.get_ref()).unwrap_or_else(|| {
            let what = "expected a duration with its unit: 10m, 12h, 7d";
            compiler.problem((layer, key, Some(text.span())), what, None);
            Duration::ZERO
        })
    };
    Windows {
        id: window("dedupe_window", last(stack, |table| table.dedupe_window.as_ref())),
        hash: window("dedupe_hash_window", last(stack, |table| table.dedupe_hash_window.as_ref())),
    }
}

/// The admin's rules before the preset's.
fn rules(compiler: &mut Compiler, stack: &Stack<'_>, base: &Effects) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (layer, table) in stack.iter().rev() {
        for (index, table) in table.rule.iter().flatten().enumerate() {
            let name = format!("rule[{}]", index + 1);
            rules.extend(rule::compile(compiler, (*layer, name), table, base));
        }
    }
    rules
}

/// What the source does where no rule says otherwise.
fn effects(compiler: &mut Compiler, stack: &Stack<'_>, ticket_defaults: &TicketTable) -> Effects {
    let mut effects = Effects { ticket: ticket(compiler, stack, ticket_defaults), ..Effects::default() };
    for (layer, table) in stack {
        let place = |table| Place { layer: *layer, table };
        if let Some(table) = &table.note {
            effects.note.overlay(compiler.note(place("note"), table));
        }
        if let Some(table) = &table.contact {
            effects.contact.overlay(compiler.contact(place("contact"), table));
        }
        if let Some(table) = &table.followup {
            effects.followup.overlay(compiler.followup(place("followup"), table));
        }
        effects.attach_event = table.attach_event.unwrap_or(effects.attach_event);
    }
    effects
}
