//! What one message consists of, wherever its platform puts it.

use super::super::html;
use super::super::plain::{is_placeholder, one_line};
use super::super::value::printed;
use super::{first, kind_of, members};
use minijinja::value::{Value, ValueKind};

/// Deeper than any platform nests.
const DEPTH_MAX: usize = 6;
/// More than a message can show.
const PARTS_MAX: usize = 60;

const TEXTS: [&str; 14] = [
    "text", "body", "message", "content", "texto", "mensaje", "mensagem", "msg", "caption", "title",
    "subtitle", "value", "label", "name",
];
const CAPTIONS: [&str; 4] = ["caption", "title", "name", "filename"];
const ADDRESSES: [&str; 18] = [
    "url",
    "link",
    "mediaurl",
    "imageurl",
    "image",
    "fileurl",
    "audiourl",
    "videourl",
    "documenturl",
    "downloadurl",
    "contenturl",
    "dataurl",
    "src",
    "href",
    "file",
    "audio",
    "video",
    "document",
];
/// Objects around what a message says.
const INNER: [&str; 20] = [
    "text",
    "message",
    "payload",
    "content",
    "body",
    "data",
    "channeldata",
    "interactive",
    "buttonreply",
    "listreply",
    "button",
    "image",
    "audio",
    "video",
    "document",
    "file",
    "sticker",
    "voice",
    "media",
    "attachment",
];
const LISTS: [&str; 6] = ["attachments", "files", "images", "media", "adjuntos", "anexos"];
const CARDS: [&str; 5] = ["cards", "elements", "items", "carousel", "tarjetas"];
const BUTTONS: [&str; 8] =
    ["buttons", "options", "choices", "quickreplies", "actions", "opciones", "botones", "botoes"];

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::source) enum Part {
    Text(String),
    /// What a platform calls it, in brackets: `[sticker]`.
    Label(String),
    Link {
        label: String,
        address: String,
    },
    Place {
        label: String,
        latitude: String,
        longitude: String,
    },
    Buttons(Vec<String>),
}

impl Part {
    pub fn told(&self, as_html: bool) -> String {
        let escape = |text: &str| if as_html { html::escape(text) } else { text.to_owned() };
        match self {
            Part::Text(text) if as_html => html::lines(text),
            Part::Text(text) => text.trim().to_owned(),
            Part::Label(label) => escape(&format!("[{label}]")),
            Part::Link { label, address } => {
                let link = html::link(address).filter(|_| as_html).unwrap_or_else(|| escape(address));
                escape(&format!("[{label}] ")) + &link
            }
            Part::Place { label, latitude, longitude } => {
                let address = format!("https://www.google.com/maps?q={latitude},{longitude}");
                let map = html::link(&address).filter(|_| as_html).unwrap_or_else(|| escape(&address));
                let label =
                    if label.is_empty() { "location".to_owned() } else { format!("location: {label}") };
                escape(&format!("[{label}] {latitude}, {longitude} ")) + &map
            }
            Part::Buttons(buttons) => {
                escape(&buttons.iter().map(|button| format!("[{button}]")).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// The parts of a message in reading order, `who` being said elsewhere already.
pub(in crate::source) fn parts(map: &Value, who: Option<&str>) -> Vec<Part> {
    let mut parts = Vec::new();
    collect(map, "", 0, &mut parts);
    parts.retain(|part| !matches!(part, Part::Text(text) if Some(text.trim()) == who));
    if parts.is_empty() {
        let kind = kind_of(map);
        if !kind.is_empty() && kind != "text" {
            parts.push(Part::Label(kind));
        }
    }
    parts
}

fn collect(map: &Value, label: &str, depth: usize, parts: &mut Vec<Part>) {
    if depth > DEPTH_MAX || parts.len() >= PARTS_MAX {
        return;
    }
    let members = members(map);
    let kind = kind_of(map);
    let label = match (kind.as_str(), label) {
        ("" | "text", "") => "file",
        ("" | "text", label) => label,
        (kind, _) => kind,
    };
    if let Some(place) = place(map, &members) {
        parts.push(place);
    }
    let said = say(&members, label, parts);
    for name in INNER {
        let inner = members.iter().find(|(member, value)| member == name && value.kind() == ValueKind::Map);
        if let Some((member, inner)) = inner {
            let of_media =
                matches!(member.as_str(), "image" | "audio" | "video" | "document" | "sticker" | "voice");
            collect(inner, if of_media { member } else { label }, depth + 1, parts);
        }
    }
    for (member, value) in &members {
        match member.as_str() {
            list if LISTS.contains(&list) || CARDS.contains(&list) => {
                for element in elements(value).filter(|element| element.kind() == ValueKind::Map) {
                    collect(&element, label, depth + 1, parts);
                }
            }
            buttons if BUTTONS.contains(&buttons) => parts.extend(buttons_of(value)),
            _ => {}
        }
    }
    link(&members, label, said.as_deref(), parts);
}

/// The text, and under it a caption or a subtitle; what was taken as an address.
fn say(members: &[(String, Value)], label: &str, parts: &mut Vec<Part>) -> Option<String> {
    let is_text =
        |value: &Value| !matches!(value.kind(), ValueKind::Map | ValueKind::Seq | ValueKind::Iterable);
    let texts: Vec<(String, Value)> = members
        .iter()
        .filter(|(_, value)| is_text(value) && value.kind() != ValueKind::Bool)
        .cloned()
        .collect();
    let (name, text) = first(&texts, &TEXTS)?;
    let text = printed(text);
    let address = html::link(&text).is_some().then(|| text.trim().to_owned());
    match &address {
        // The media itself stands where a text would.
        Some(address) if label != "file" => {
            parts.push(Part::Link { label: label.to_owned(), address: address.clone() });
        }
        _ => push_text(&text, parts),
    }
    let others = CAPTIONS.iter().chain(&["subtitle", "description"]).filter(|other| **other != name);
    let wanted: Vec<&str> = if matches!(name, "title" | "body" | "url") || address.is_some() {
        others.copied().collect()
    } else {
        vec!["caption"]
    };
    for other in wanted {
        if let Some((found, caption)) = first(&texts, &[other]).filter(|(found, _)| *found != name) {
            let is_name = matches!(found, "name" | "filename") && name == "body" && address.is_none();
            if !is_name {
                push_text(&printed(caption), parts);
            }
        }
    }
    address
}

fn push_text(text: &str, parts: &mut Vec<Part>) {
    let is_there = parts.iter().any(|part| matches!(part, Part::Text(other) if other.trim() == text.trim()));
    if !is_placeholder(text) && !is_there {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// An address that is no text.
fn link(members: &[(String, Value)], label: &str, said: Option<&str>, parts: &mut Vec<Part>) {
    for name in ADDRESSES {
        let Some((member, value)) = members.iter().find(|(member, _)| member == name) else { continue };
        let Some(address) = value.as_str().map(str::trim).filter(|text| html::link(text).is_some()) else {
            continue;
        };
        let is_there = said == Some(address)
            || parts.iter().any(|part| matches!(part, Part::Link { address: other, .. } if other == address));
        if !is_there {
            let label = match member.as_str() {
                "image" | "imageurl" => "image",
                "audio" | "audiourl" => "audio",
                "video" | "videourl" => "video",
                _ => label,
            };
            parts.push(Part::Link { label: label.to_owned(), address: address.to_owned() });
        }
    }
}

fn place(map: &Value, own: &[(String, Value)]) -> Option<Part> {
    let inner = ["location", "ubicacion", "localizacao", "coordinates"];
    let nested = inner
        .iter()
        .find_map(|name| own.iter().find(|(member, value)| member == name && value.kind() == ValueKind::Map));
    let members = nested.map_or_else(|| members(map), |(_, value)| members(value));
    let (_, latitude) = first(&members, &["latitude", "lat", "latitud"])?;
    let (_, longitude) = first(&members, &["longitude", "lng", "lon", "long", "longitud"])?;
    let is_number = |text: &String| text.parse::<f64>().is_ok();
    let (latitude, longitude) = (printed(latitude), printed(longitude));
    let label = first(&members, &["address", "name", "label", "direccion", "endereco", "title"]);
    let label = label.map(|(_, label)| one_line(&printed(label))).unwrap_or_default();
    (is_number(&latitude) && is_number(&longitude)).then_some(Part::Place { label, latitude, longitude })
}

fn buttons_of(value: &Value) -> Option<Part> {
    let names = ["title", "label", "text", "reply", "name", "value", "payload"];
    let label = |button: Value| match button.kind() {
        ValueKind::Map => {
            let members = members(&button);
            let (_, label) = first(&members, &names)?;
            match label.kind() {
                ValueKind::Map => first(&self::members(label), &names).map(|(_, label)| printed(label)),
                _ => Some(printed(label)),
            }
        }
        _ => Some(printed(&button)),
    };
    let labels: Vec<String> =
        elements(value).filter_map(label).map(|label| one_line(&label)).take(20).collect();
    let labels: Vec<String> = labels.into_iter().filter(|label| !is_placeholder(label)).collect();
    (!labels.is_empty()).then_some(Part::Buttons(labels))
}

fn elements(value: &Value) -> impl Iterator<Item = Value> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    let list = if is_list { value.try_iter().ok() } else { None };
    list.into_iter().flatten().take(PARTS_MAX)
}
