//! How the record of a data set becomes a question: the context and the continuation of each choice. The prompts and the
//! treatment of the texts are those of EleutherAI's lm-evaluation-harness.

use foretoken_datasets::Record;

use super::fields::{Fields, MAX_CHOICES};
use super::task::Task;
use super::text::{capitalize, strip, without_markup};

/// One choice of an item: the model's log-likelihood of `continuation` after `context` is its score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Text before the continuation.
    pub context: String,
    /// Text that is scored.
    pub continuation: String,
    /// Characters of the choice, by which a score is divided for `acc_norm`.
    pub characters: usize,
    /// Bytes of the choice, by which a score is divided for `acc_bytes`.
    pub bytes: usize,
}

/// A question with its choices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// File, and line or row, for messages.
    pub place: String,
    /// Identity in the data set, if it states one.
    pub id: Option<String>,
    /// Part of the task that the item belongs to, if it has parts.
    pub group: Option<String>,
    /// The choices, at least one.
    pub choices: Vec<Choice>,
    /// Index of the right choice.
    pub gold: usize,
}

impl Item {
    /// Returns whether another item asks the same, whatever its place.
    pub(super) fn is_same_question(&self, other: &Self) -> bool {
        (&self.choices, self.gold) == (&other.choices, other.gold)
    }

    /// Returns the item as an example with its answer, for the prompts of others.
    pub(super) fn example(&self, task: Task) -> String {
        let right = &self.choices[self.gold];
        // The harness puts a space between question and answer, also where the answer begins with one.
        let delimiter = if task == Task::Lambada { " " } else { "" };
        format!("{}{delimiter}{}\n\n", right.context, right.continuation)
    }
}

/// Makes the item of a record. The error is a message about its place.
pub(super) fn item(task: Task, record: &Record) -> Result<Item, String> {
    let fields = Fields(&record.values);
    match task {
        Task::Hellaswag => {
            let begin = fields.text("ctx_a")?;
            let end = capitalize(fields.text("ctx_b")?);
            let query = format!("{}: {begin} {end}", fields.text("activity_label")?);
            let endings = fields.texts("endings")?;
            let endings = endings.into_iter().map(without_markup).collect();
            let gold = fields.index("label")?;
            questions(
                &without_markup(&query),
                endings,
                gold,
                fields.id(&["id"])?,
                "endings",
            )
        }
        Task::ArcEasy | Task::ArcChallenge => {
            let key = fields.text("answerKey")?;
            let labels = fields.texts("choices.label")?;
            let texts = fields.texts("choices.text")?;
            if labels.len() != texts.len() {
                return Err(format!(
                    "\"choices\" has {} texts, but {} labels",
                    texts.len(),
                    labels.len()
                ));
            }
            let gold = labels.iter().position(|label| *label == key);
            let gold = gold.ok_or_else(|| {
                format!("\"answerKey\" is {key:?}, which is none of the labels {labels:?}")
            })?;
            let prompt = format!("Question: {}\nAnswer:", fields.text("question")?);
            let texts = texts.into_iter().map(String::from).collect();
            questions(&prompt, texts, gold, fields.id(&["id"])?, "choices.text")
        }
        Task::Piqa => {
            let prompt = format!("Question: {}\nAnswer:", fields.text("goal")?);
            let solutions = [fields.text("sol1")?, fields.text("sol2")?];
            let solutions = solutions.map(String::from).into();
            let gold = fields.index("label")?;
            questions(&prompt, solutions, gold, fields.id(&["id"])?, "sol1")
        }
        Task::Winogrande => winogrande(&fields),
        Task::Lambada => {
            let text = fields.text("text")?;
            // As Python's `split(" ")`: the last piece, which a space at the end makes empty.
            let (context, word) = text.rsplit_once(' ').unwrap_or(("", text));
            let word = Choice {
                context: context.into(),
                continuation: format!(" {word}"),
                characters: word.chars().count() + 1,
                bytes: word.len() + 1,
            };
            if word.bytes == 1 {
                return Err("\"text\" has no last word: it is empty or ends with a space".into());
            }
            Ok(Item {
                place: String::new(),
                id: fields.id(&["id"])?,
                group: None,
                choices: vec![word],
                gold: 0,
            })
        }
        Task::Blimp => {
            let sentences = [fields.text("sentence_good")?, fields.text("sentence_bad")?];
            let group = fields.text("UID")?.to_owned();
            let id = fields.id(&["pair_id", "pairID"])?;
            let item = questions(
                "",
                sentences.map(String::from).into(),
                0,
                id.map(|id| format!("{group} {id}")),
                "sentence_good",
            )?;
            Ok(Item {
                group: Some(group),
                ..item
            })
        }
    }
}

/// Makes an item whose choices follow the same context after a space.
fn questions(
    context: &str,
    choices: Vec<String>,
    gold: usize,
    id: Option<String>,
    column: &str,
) -> Result<Item, String> {
    match choices.len() {
        0 | 1 => {
            return Err(format!(
                "{column:?} has {} of the at least two choices of a question",
                choices.len()
            ));
        }
        count if count > MAX_CHOICES => {
            return Err(format!(
                "{column:?} has {count} choices, more than {MAX_CHOICES}, the limit"
            ));
        }
        count if gold >= count => {
            return Err(format!(
                "the label is {gold}, but there are {count} choices, from 0 to {}",
                count - 1
            ));
        }
        _ => {}
    }
    if let Some(empty) = choices.iter().position(|choice| strip(choice).is_empty()) {
        return Err(format!("choice {empty} is empty"));
    }
    let choices = choices.into_iter().map(|choice| Choice {
        context: context.into(),
        characters: choice.chars().count(),
        bytes: choice.len(),
        continuation: format!(" {choice}"),
    });
    Ok(Item {
        place: String::new(),
        id,
        group: None,
        choices: choices.collect(),
        gold,
    })
}

/// Makes an item of WinoGrande, which is scored partially (Trinh & Le 2018, <https://arxiv.org/abs/1806.02847>): each name
/// fills the blank of the context, and the text after the blank is scored.
fn winogrande(fields: &Fields<'_>) -> Result<Item, String> {
    let sentence = fields.text("sentence")?;
    let (before, after) = sentence
        .split_once('_')
        .ok_or("\"sentence\" has no blank, which is written _")?;
    let after = strip(after);
    if after.is_empty() {
        return Err("\"sentence\" has no text after its blank, which would be scored".into());
    }
    let gold = match fields.text("answer")? {
        "1" => 0,
        "2" => 1,
        other => return Err(format!("\"answer\" is {other:?}, not \"1\" or \"2\"")),
    };
    let mut choices = Vec::new();
    for name in ["option1", "option2"] {
        let option = fields.text(name)?;
        if strip(option).is_empty() {
            return Err(format!(
                "{name:?} is empty, so that nothing fills the blank"
            ));
        }
        let filled = format!("{before}{option}");
        choices.push(Choice {
            characters: filled.chars().count(),
            bytes: filled.len(),
            context: filled,
            continuation: format!(" {after}"),
        });
    }
    Ok(Item {
        place: String::new(),
        id: fields.id(&["qID"])?,
        group: None,
        choices,
        gold,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(task: Task, values: Value) -> Result<Item, String> {
        let object = values.as_object().unwrap();
        let columns = task.data_set().columns.iter();
        let values = columns.filter_map(|column| {
            let mut parts = column.name.split('.');
            let first = object.get(parts.next().unwrap())?;
            let value = parts.try_fold(first, |value, part| value.get(part))?;
            Some((column.name, value.clone()))
        });
        let record = Record {
            place: String::new(),
            values: values.collect(),
        };
        item(task, &record)
    }

    fn pairs(item: &Item) -> Vec<(&str, &str)> {
        let choices = item.choices.iter();
        choices
            .map(|choice| (choice.context.as_str(), choice.continuation.as_str()))
            .collect()
    }

    #[test]
    fn prompts_are_those_of_the_harness() {
        let hellaswag = read(
            Task::Hellaswag,
            json!({"activity_label": "Roof [header] work", "ctx_a": "A man sits.", "ctx_b": "he [step] Begins",
                   "endings": ["is [title] up.", " sé. "], "label": "1"}),
        );
        let item = hellaswag.unwrap();
        let context = "Roof work: A man sits. He begins";
        assert_eq!(pairs(&item), [(context, " is. up."), (context, " sé.")]);
        assert_eq!((item.gold, item.choices[1].characters), (1, 3));
        assert_eq!(item.choices[1].bytes, 4);
        assert_eq!(item.example(Task::Hellaswag), format!("{context} sé.\n\n"));

        let arc = json!({"question": "Why?", "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]},
                         "answerKey": "3", "id": "x"});
        let item = read(Task::ArcEasy, arc).unwrap();
        assert_eq!(pairs(&item)[2], ("Question: Why?\nAnswer:", " c"));
        assert_eq!((item.gold, item.id.as_deref()), (2, Some("x")));

        let piqa = json!({"goal": "g", "sol1": "one", "sol2": "two", "label": 0});
        let item = read(Task::Piqa, piqa).unwrap();
        let context = "Question: g\nAnswer:";
        assert_eq!(pairs(&item), [(context, " one"), (context, " two")]);

        let lambada = read(Task::Lambada, json!({"text": "the last  word"})).unwrap();
        assert_eq!(pairs(&lambada), [("the last ", " word")]);
        assert_eq!(lambada.example(Task::Lambada), "the last   word\n\n");
        let one = read(Task::Lambada, json!({"text": "word"})).unwrap();
        assert_eq!(pairs(&one), [("", " word")]);

        let blimp = json!({"sentence_good": "She is.", "sentence_bad": "She are.", "UID": "u", "pair_id": 3});
        let item = read(Task::Blimp, blimp).unwrap();
        assert_eq!(pairs(&item), [("", " She is."), ("", " She are.")]);
        assert_eq!(item.id.as_deref(), Some("u 3"));
    }

    #[test]
    fn winogrande_scores_the_text_after_the_blank() {
        let item = read(
            Task::Winogrande,
            json!({"sentence": "Ann saw Eve because _ was  near. ", "option1": "Ann", "option2": "Eve", "answer": "2"}),
        );
        let item = item.unwrap();
        assert_eq!(
            pairs(&item),
            [
                ("Ann saw Eve because Ann", " was  near."),
                ("Ann saw Eve because Eve", " was  near."),
            ]
        );
        let example = "Ann saw Eve because Eve was  near.\n\n";
        assert_eq!(item.example(Task::Winogrande), example);
    }

    #[test]
    fn faults_of_a_record_are_named() {
        let piqa = |label: Value| json!({"goal": "g", "sol1": "a", "sol2": " ", "label": label});
        let arc = |labels: Value, key: &str| json!({"question": "q", "choices": {"text": ["a", "b"], "label": labels}, "answerKey": key});
        let winogrande = |sentence: &str, answer: &str| json!({"sentence": sentence, "option1": "", "option2": "b", "answer": answer});
        let swag = |endings: Value| json!({"activity_label": "", "ctx_a": "", "ctx_b": "", "endings": endings, "label": 0});
        for (task, values, part) in [
            (Task::Piqa, piqa(json!(0)), "choice 1 is empty"),
            (Task::Piqa, piqa(json!(2)), "label is 2, but there are 2"),
            (Task::Piqa, piqa(json!(-1)), "no labels"),
            (Task::Piqa, piqa(json!("")), "no labels"),
            (Task::Piqa, piqa(json!(0.5)), "0.5, not an index"),
            (Task::Piqa, piqa(json!(null)), "null, not an index"),
            (
                Task::ArcEasy,
                arc(json!(["A", "B"]), "C"),
                "none of the labels",
            ),
            (
                Task::ArcEasy,
                arc(json!(["A"]), "A"),
                "2 texts, but 1 labels",
            ),
            (Task::ArcEasy, arc(json!("AB"), "A"), "not a list"),
            (Task::ArcEasy, arc(json!([1, 2]), "A"), "contains a number"),
            (Task::Winogrande, winogrande("no blank", "1"), "no blank"),
            (Task::Winogrande, winogrande("x _ ", "1"), "after its blank"),
            (
                Task::Winogrande,
                winogrande("_ x", "1"),
                "\"option1\" is empty",
            ),
            (
                Task::Winogrande,
                winogrande("x _ y", "2"),
                "\"option1\" is empty",
            ),
            (
                Task::Winogrande,
                winogrande("_ x", ""),
                "not \"1\" or \"2\"",
            ),
            (Task::Lambada, json!({"text": "ends "}), "no last word"),
            (Task::Lambada, json!({"text": ""}), "no last word"),
            (Task::Lambada, json!({"text": 1}), "a number, not a string"),
            (Task::Hellaswag, swag(json!([])), "0 of the at least two"),
            (
                Task::Hellaswag,
                swag(json!(["[a]", "b"])),
                "choice 0 is empty",
            ),
            (
                Task::Hellaswag,
                swag(json!(vec!["a"; 4000])),
                "more than 128",
            ),
        ] {
            let error = read(task, values).unwrap_err();
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
