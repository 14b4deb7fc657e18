//! The answers of a form, wherever a platform puts them, as one map from question to answer: what templates see as
//! `answers`, and where finders look first.

use super::find::{Path, scalar_text};
use super::table::AnswersTable;
use serde_json::{Map, Value as Json};

/// More answers are no form.
const ANSWERS_MAX: usize = 500;

/// Where a platform's forms have their answers.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    list: Path,
    label: Vec<Path>,
    value: Vec<Path>,
    question: Option<Path>,
    questions: Option<Path>,
    options: Option<Path>,
}

impl Answers {
    pub fn of(table: &AnswersTable) -> Answers {
        let paths = |texts: &[String]| texts.iter().map(|text| Path::parse(text)).collect();
        let path = |text: &Option<String>| text.as_deref().map(Path::parse);
        Answers {
            list: Path::parse(&table.list),
            label: paths(&table.label),
            value: paths(&table.value),
            question: path(&table.question),
            questions: path(&table.questions),
            options: path(&table.options),
        }
    }

    /// Question → answer in the form's order; nothing when the event has no form.
    pub fn read(&self, event: &Json) -> Option<Json> {
        let list = self.list.values(event).into_iter().find_map(Json::as_array)?;
        let questions = self.questions.as_ref().and_then(|path| path.values(event).first()?.as_array());
        let mut answers = Map::new();
        for element in list.iter().take(ANSWERS_MAX) {
            let (Some(label), Some(value)) = (self.label(element, questions), first(&self.value, element))
            else {
                continue;
            };
            let value = self.chosen(element, value);
            match answers.get_mut(&label) {
                None => {
                    answers.insert(label, value);
                }
                Some(Json::Array(several)) => several.push(value),
                Some(one) => *one = Json::Array(vec![one.take(), value]),
            }
        }
        (!answers.is_empty()).then_some(Json::Object(answers))
    }

    /// The question as people read it: from the list of questions, or beside the answer.
    fn label(&self, element: &Json, questions: Option<&Vec<Json>>) -> Option<String> {
        let id = self.question.as_ref().and_then(|path| path.values(element).first().copied());
        let is_it = |question: &&Json| id.is_some() && question.get("id") == id;
        let title = questions.and_then(|questions| {
            let question = questions.iter().find(is_it)?;
            ["title", "label", "text", "name"].iter().find_map(|name| question.get(name))
        });
        let label = scalar_text(title.or_else(|| first(&self.label, element))?);
        Some(label.trim().to_owned()).filter(|label| !label.is_empty())
    }

    /// Ids of options are replaced by what the options say.
    fn chosen(&self, element: &Json, value: &Json) -> Json {
        let options = self.options.as_ref().and_then(|path| path.values(element).first()?.as_array());
        let Some(options) = options else { return value.clone() };
        let said = |id: &Json| {
            let option = options.iter().find(|option| option.get("id") == Some(id))?;
            ["text", "label", "name", "title", "value"].iter().find_map(|name| option.get(name)).cloned()
        };
        match value {
            Json::Array(ids) => ids.iter().map(|id| said(id).unwrap_or_else(|| id.clone())).collect(),
            id => said(id).unwrap_or_else(|| id.clone()),
        }
    }
}

/// The first value at any of the paths that is not null.
fn first<'a>(paths: &[Path], element: &'a Json) -> Option<&'a Json> {
    paths.iter().flat_map(|path| path.values(element)).find(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(table: &str, event: Json, expect: Json) {
        let table: AnswersTable = toml::from_str(table).unwrap();
        assert_eq!(Answers::of(&table).read(&event).unwrap_or_default(), expect);
    }

    #[test]
    fn answers_have_the_words_of_their_questions_and_options() {
        let beside = "list = 'fields'\nlabel = ['label']\nvalue = ['value']\noptions = 'options'";
        check(
            beside,
            json!({"fields": [
                {"label": "Topic", "value": ["a", "x"], "options": [{"id": "a", "text": "Billing"}]},
                {"label": "Phone", "value": null}, {"label": " ", "value": 1}, {"label": "Topic", "value": "Z"},
            ]}),
            json!({"Topic": ["Billing", "x", "Z"]}),
        );
        let apart = "list = 'r.answers'\nlabel = ['field.ref']\nvalue = ['text', 'choices.labels']\nquestion = 'field.id'\nquestions = 'r.questions'";
        check(
            apart,
            json!({"r": {"questions": [{"id": "f1", "title": "Your name?"}], "answers": [
                {"text": "Ana", "field": {"id": "f1", "ref": "n"}}, {"choices": {"labels": ["A", "B"]}, "field": {"id": "f9", "ref": "os"}}]}}),
            json!({"Your name?": "Ana", "os": ["A", "B"]}),
        );
        check(beside, json!({"other": []}), Json::Null);
    }
}
