//! Rules: what each field says, in words of policy's manipulation.

use super::super::error::ConfigErrors;
use super::super::file::{self, Field, Span};
use crate::policy::manipulation::{
    Action, CodecChange, Condition, Direction, MAX_PARTS, MAX_RULES, Manipulation, Meant, Pattern, Place,
    Rule, RuleFault, Scope, Source, StatusRange, Template, Test,
};
use crate::sip::message::Method;
use std::collections::BTreeMap;
use toml::Spanned;

/// The rules of one trunk, or of a file of rules; what is wrong with one is told and it is left out.
pub(in crate::config) fn manipulation(
    written: &[Spanned<file::Rule>],
    variables: &BTreeMap<String, String>,
    label: &str,
    errors: &mut ConfigErrors,
) -> Manipulation {
    let variables: Vec<(String, String)> =
        variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let (mut receive, mut send) = (Vec::new(), Vec::new());
    for entry in written {
        let Some((direction, rule)) = rule(entry, &variables, label, errors) else { continue };
        let rules = match direction {
            Direction::Receive => &mut receive,
            Direction::Send => &mut send,
        };
        if rules.len() == MAX_RULES {
            let message = format!("{MAX_RULES} rules of one direction are the most");
            let fix = "let one rule do more: it may have several actions";
            errors.add(Some(entry.span()), format!("{label} rule"), message, fix);
            break;
        }
        rules.push(rule);
    }
    Manipulation { receive: receive.into(), send: send.into() }
}

fn rule(
    entry: &Spanned<file::Rule>,
    variables: &[(String, String)],
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<(Direction, Rule)> {
    let (span, written) = (entry.span(), entry.get_ref());
    let label = format!("{label} rule");
    let name = super::trunk::required(&span, &written.name, &label, "name = \"what it is for\"", errors);
    if written.direction.is_none() {
        let fix = "add direction = \"receive\" or direction = \"send\"";
        errors.add(Some(span.clone()), format!("{label} direction"), "is missing", fix);
    }
    let before = errors.errors.len();
    let label = name.map_or(label.clone(), |name| format!("{label} {:?}", name.get_ref()));
    let methods = methods(&written.method, &label, errors);
    let statuses = statuses(&written.status, &label, errors);
    for (field, list) in [("when", written.when.len()), ("do", written.actions.len())] {
        if list > MAX_PARTS {
            let message = format!("{list} of them, {MAX_PARTS} are the most");
            errors.add(Some(span.clone()), format!("{label} {field}"), message, "split the rule");
        }
    }
    if written.actions.is_empty() {
        let fix = "add do = [{ remove = \"header.X-Example\" }], or another action";
        errors.add(Some(span.clone()), format!("{label} do"), "is missing", fix);
    }
    let mut captures = Vec::new();
    let mut conditions = Vec::new();
    for written in &written.when {
        let scope = Scope { variables, captures: &captures, pattern: None };
        if let Some(condition) = condition(written, &scope, &label, errors) {
            captures.extend(condition.captures());
            conditions.push(condition);
        }
    }
    let direction = *written.direction.as_ref()?.get_ref();
    let kind = written.message.as_ref().map(|kind| *kind.get_ref());
    let meant = Meant { direction, kind, statuses: &statuses };
    let scope = Scope { variables, captures: &captures, pattern: None };
    let actions: Vec<Action> = written
        .actions
        .iter()
        .filter_map(|written| action(written, &scope, &meant, &label, errors))
        .collect();
    let rule = Rule {
        name: name?.get_ref().as_str().into(),
        kind,
        methods,
        statuses,
        in_dialog: written.dialog.as_ref().map(|dialog| *dialog.get_ref() == file::RuleDialog::Inside),
        conditions,
        actions,
        last: super::value(&written.last, false),
    };
    (errors.errors.len() == before).then_some((direction, rule))
}

fn methods(written: &[Spanned<String>], label: &str, errors: &mut ConfigErrors) -> Vec<Method> {
    let mut methods = Vec::new();
    for text in written {
        // Methods are compared with their case (RFC 3261 section 7.1).
        match Method::from_token(text.get_ref()).filter(|_| *text.get_ref() == text.get_ref().to_uppercase())
        {
            Some(method) => methods.push(method),
            None => {
                let fix = "write methods as they stand in messages, as in [\"INVITE\", \"BYE\"]";
                let message = format!("{:?} is no method", text.get_ref());
                errors.add(Some(text.span()), format!("{label} method"), message, fix);
            }
        }
    }
    methods
}

fn statuses(written: &[Spanned<String>], label: &str, errors: &mut ConfigErrors) -> Vec<StatusRange> {
    let read = |text: &Spanned<String>| {
        told(StatusRange::parse(text.get_ref()), &text.span(), &format!("{label} status"), errors)
    };
    written.iter().filter_map(read).collect()
}

fn condition(
    entry: &Spanned<file::Condition>,
    scope: &Scope<'_>,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Condition> {
    let (span, written) = (entry.span(), entry.get_ref());
    let field = format!("{label} when");
    let source =
        written.value.as_ref().map(|text| told(Source::parse(text.get_ref()), &text.span(), &field, errors));
    let test = match (&written.present, &written.is, &written.matches) {
        (Some(present), None, None) => Some(Test::Present(*present.get_ref())),
        (None, Some(texts), None) => {
            let texts: Vec<_> = texts
                .get_ref()
                .iter()
                .map(|text| told(Template::parse(text, scope), &texts.span(), &field, errors))
                .collect();
            Some(Test::Is(texts.into_iter().collect::<Option<_>>()?))
        }
        (None, None, Some(pattern)) => {
            Some(Test::Matches(told(Pattern::new(pattern.get_ref()), &pattern.span(), &field, errors)?))
        }
        _ => None,
    };
    let (Some(source), Some(test)) = (source, test) else {
        let fix =
            "write value = \"header.NAME\" and one of present = true, is = [\"text\"], matches = 'pattern'";
        errors.add(Some(span), field, "a condition is a value and one test of it", fix);
        return None;
    };
    Some(Condition { source: source?, test, not: super::value(&written.not, false) })
}

const ACTIONS: &str = "write { add = \"header.NAME\", value = \"...\" }, { set = ..., value = ... }, { remove = ... }, \
                       { rename = ..., to = ... }, { rewrite = ..., pattern = '...', with = \"...\" }, \
                       { copy = ..., to = ... }, { remove_codecs = [...] }, { keep_codecs = [...] } or \
                       { order_codecs = [...] }";

fn action(
    entry: &Spanned<file::Action>,
    scope: &Scope<'_>,
    meant: &Meant<'_>,
    label: &str,
    errors: &mut ConfigErrors,
) -> Option<Action> {
    let span = entry.span();
    let field = format!("{label} do");
    let Some((at, read)) = read_action(entry.get_ref(), scope) else {
        errors.add(
            Some(span),
            field,
            "an action is one verb with all that it needs, and nothing else",
            ACTIONS,
        );
        return None;
    };
    let action = told(read, at.as_ref().unwrap_or(&span), &field, errors)?;
    told(action.check(meant), &span, &field, errors)?;
    Some(action)
}

/// Where the fault is, if it is in one of the fields, and the action or the fault; `None` if it is no action at all.
fn read_action(
    written: &file::Action,
    scope: &Scope<'_>,
) -> Option<(Option<Span>, Result<Action, RuleFault>)> {
    let file::Action {
        add,
        set,
        remove,
        rename,
        rewrite,
        copy,
        remove_codecs,
        keep_codecs,
        order_codecs,
        value,
        to,
        pattern,
        with,
        matching,
    } = written;
    let places = [add, set, remove, rename, rewrite, copy];
    let codecs = [
        (remove_codecs, CodecChange::Remove),
        (keep_codecs, CodecChange::Keep),
        (order_codecs, CodecChange::Order),
    ];
    let verbs = places.iter().filter(|verb| verb.is_some()).count()
        + codecs.iter().filter(|(verb, _)| verb.is_some()).count();
    if verbs != 1 {
        return None;
    }
    let mut reader = Reader { at: None, scope };
    let helpers = [value.is_some(), to.is_some(), pattern.is_some(), with.is_some(), matching.is_some()];
    let action = if let (Some(verb), [true, false, false, false, false]) = (add, helpers) {
        reader.add(verb, value.as_ref()?)
    } else if let (Some(verb), [true, false, false, false, false]) = (set, helpers) {
        reader.set(verb, value.as_ref()?)
    } else if let (Some(verb), [false, false, false, false, _]) = (remove, helpers) {
        reader.remove(verb, matching.as_ref())
    } else if let (Some(verb), [false, true, false, false, false]) = (rename, helpers) {
        reader.rename(verb, to.as_ref()?)
    } else if let (Some(verb), [false, false, true, true, false]) = (rewrite, helpers) {
        reader.rewrite(verb, pattern.as_ref()?, with.as_ref()?)
    } else if let (Some(verb), [false, true, false, false, false]) = (copy, helpers) {
        reader.copy(verb, to.as_ref()?)
    } else if helpers == [false; 5] {
        let (names, change) = codecs.iter().find_map(|(names, change)| Some((names.as_ref()?, *change)))?;
        reader.at = Some(names.span());
        Ok(Action::Codecs { change, names: names.get_ref().clone() })
    } else {
        return None;
    };
    Some((reader.at, action))
}

/// Remembers which field it read last: a fault is there.
struct Reader<'a> {
    at: Option<Span>,
    scope: &'a Scope<'a>,
}

impl Reader<'_> {
    fn place(&mut self, text: &Spanned<String>) -> Result<Place, RuleFault> {
        self.at = Some(text.span());
        Place::parse(text.get_ref())
    }

    fn template(&mut self, text: &Spanned<String>) -> Result<Template, RuleFault> {
        self.at = Some(text.span());
        Template::parse(text.get_ref(), self.scope)
    }

    fn pattern(&mut self, text: &Spanned<String>) -> Result<Pattern, RuleFault> {
        self.at = Some(text.span());
        Pattern::new(text.get_ref())
    }

    fn add(&mut self, verb: &Spanned<String>, value: &Spanned<String>) -> Result<Action, RuleFault> {
        Ok(Action::Add { place: self.place(verb)?, value: self.template(value)? })
    }

    fn set(&mut self, verb: &Spanned<String>, value: &Spanned<String>) -> Result<Action, RuleFault> {
        Ok(Action::Set { place: self.place(verb)?, value: self.template(value)? })
    }

    fn remove(
        &mut self,
        verb: &Spanned<String>,
        matching: Option<&Spanned<String>>,
    ) -> Result<Action, RuleFault> {
        let place = self.place(verb)?;
        let matching = matching.map(|text| self.pattern(text)).transpose()?;
        Ok(Action::Remove { place, matching })
    }

    fn rename(&mut self, verb: &Spanned<String>, to: &Spanned<String>) -> Result<Action, RuleFault> {
        self.at = Some(verb.span());
        let from = Place::parse_header_name(verb.get_ref())?;
        self.at = Some(to.span());
        Ok(Action::Rename { from, to: Place::parse_header_name(to.get_ref())? })
    }

    fn rewrite(
        &mut self,
        verb: &Spanned<String>,
        pattern: &Spanned<String>,
        with: &Spanned<String>,
    ) -> Result<Action, RuleFault> {
        let place = self.place(verb)?;
        let pattern = self.pattern(pattern)?;
        self.at = Some(with.span());
        let scope = Scope { pattern: Some(&pattern), ..*self.scope };
        let with = Template::parse(with.get_ref(), &scope)?;
        Ok(Action::Rewrite { place, pattern, with })
    }

    fn copy(&mut self, verb: &Spanned<String>, to: &Spanned<String>) -> Result<Action, RuleFault> {
        Ok(Action::Copy { from: self.place(verb)?, to: self.place(to)? })
    }
}

fn told<T>(result: Result<T, RuleFault>, span: &Span, field: &str, errors: &mut ConfigErrors) -> Option<T> {
    result.map_err(|fault| errors.add(Some(span.clone()), field, fault.to_string(), fault.fix())).ok()
}

/// Names that variables may not have, because they mean something already.
pub(in crate::config) fn variables(
    written: &Field<BTreeMap<String, String>>,
    label: &str,
    errors: &mut ConfigErrors,
) -> BTreeMap<String, String> {
    let Some(written) = written else { return BTreeMap::new() };
    for (name, value) in written.get_ref() {
        let is_name = name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit());
        let message = if !is_name {
            format!("{name:?} is no name of letters, digits and underscores")
        } else if Source::parse(name).is_ok() {
            format!("{name} means something else in rules")
        } else if value.chars().any(char::is_control) {
            format!("{name} holds a control octet, which no header can")
        } else {
            continue;
        };
        let fix = "write as in tenant = \"contoso\"";
        errors.add(Some(written.span()), format!("{label} variables"), message, fix);
    }
    written.get_ref().clone()
}
