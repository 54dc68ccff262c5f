//! What points at something: links of the documentation, the index of decisions, the stream files.

use std::collections::BTreeMap;

use super::Finding;
use super::repo::{Repo, numbered};

/// Relative links in Markdown that lead nowhere.
pub(super) fn links(repo: &Repo) -> Vec<Finding> {
    let paths = repo.paths();
    let mut findings = Vec::new();
    for (path, text) in repo.texts().filter(|(path, _)| path.ends_with(".md")) {
        for (number, target) in targets(text) {
            let reached = resolve(path, target);
            if reached.as_deref().is_none_or(|reached| !reached.is_empty() && !paths.contains(reached)) {
                let wrong = format!("the link to `{target}` leads nowhere");
                findings.push(Finding::new(
                    path,
                    number,
                    wrong,
                    "name a file of this repository, from this file's folder",
                ));
            }
        }
    }
    findings
}

const DECISIONS: &str = "docs/decisions/";

/// Decisions that the index does not have, share a number, or do not have one.
pub(super) fn decisions(repo: &Repo) -> Vec<Finding> {
    let index = repo.text("docs/decisions/README.md");
    let mut numbers: BTreeMap<&str, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for (path, _) in repo.texts() {
        let Some(name) =
            path.strip_prefix(DECISIONS).filter(|name| !["README.md", "template.md"].contains(name))
        else {
            continue;
        };
        let Some(number) = number_of(name) else {
            findings.push(Finding::new(
                path,
                1,
                "this name is no decision's",
                "call it NNNN-what-was-decided.md",
            ));
            continue;
        };
        if let Some(other) = numbers.insert(number, name) {
            let wrong = format!("{other} has the same number");
            findings.push(Finding::new(path, 1, wrong, "give the younger one the next free number"));
        }
        if !targets(index).any(|(_, target)| target == name) {
            findings.push(Finding::new(
                path,
                1,
                "the index does not have it",
                "add its row to docs/decisions/README.md",
            ));
        }
    }
    findings
}

/// `0007` of `0007-one-consumer.md`.
fn number_of(name: &str) -> Option<&str> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let digits = number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !title.is_empty()).then_some(number)
}

/// Stream files that are not TOML: the hub would refuse to start.
pub(super) fn streams(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in
        repo.texts().filter(|(path, _)| path.starts_with("streams/") && path.ends_with(".toml"))
    {
        if let Err(error) = toml::from_str::<toml::Table>(text) {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            findings.push(Finding::new(path, line, error.message(), "mend the TOML"));
        }
    }
    findings
}

/// The relative targets of `[text](target)` and `[name]: target`, with their lines. Code is not a link.
fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    numbered(text)
        .filter(move |(_, line)| {
            let fence = line.trim_start().starts_with("```");
            in_block ^= fence;
            !in_block && !fence
        })
        .flat_map(|(number, line)| line_targets(line).into_iter().map(move |target| (number, target)))
}

fn line_targets(line: &str) -> Vec<&str> {
    // Inside backquotes are the pieces with an odd index.
    let prose = line.split('`').enumerate().filter(|(index, _)| index % 2 == 0);
    let mut found: Vec<&str> = Vec::new();
    // A link's text may itself be code: `](` is then at the start of the piece after it.
    for (_, piece) in prose {
        found.extend(piece.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
    }
    let definition = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
    found.extend(definition.and_then(|(_, rest)| rest.split_whitespace().next()));
    found
        .into_iter()
        .map(|target| target.trim_matches(['<', '>']))
        .filter(|target| is_relative(target))
        .collect()
}

fn is_relative(target: &str) -> bool {
    !target.starts_with('#') && !target.contains("://") && !target.starts_with("mailto:")
}

/// The path from the root that `target`, written in the file `from`, means; none when it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let target = target.split('#').next().unwrap_or_default();
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|finding| finding.path.as_str()).collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        let page = "[up](../README.md) and ![picture](img/a.png#top), [here](#here), [out](https://example.org/x),\n\
                    [`code`](b.md \"title\"), [folder](img/), `[not](a-link)`\n```\n[nor](this)\n```\n[ref]: ./b.md\n";
        let repo = Repo::of(&[
            ("README.md", "[docs](docs)"),
            ("docs/a.md", page),
            ("docs/b.md", "[root](..)"),
            ("docs/img/a.png", ""),
        ]);
        assert_eq!(links(&repo), []);
    }

    #[test]
    fn links_that_lead_nowhere_are_found_at_their_lines() {
        let page = "fine\n[a](gone.md)\n```\ncode\n```\n[b]: gone.md\n[c](../../out.md) [d](/etc/passwd) [`e`](gone.md)\n";
        let repo = Repo::of(&[("docs/a.md", page), ("docs/b.txt", page)]);
        let lines: Vec<usize> = links(&repo).iter().map(|finding| finding.line).collect();
        assert_eq!(lines, [2, 6, 7, 7, 7]);
    }

    #[test]
    fn decisions_missing_from_the_index_are_found() {
        let repo = Repo::of(&[
            ("docs/decisions/README.md", "[1](0001-a.md)"),
            ("docs/decisions/template.md", ""),
            ("docs/decisions/0001-a.md", ""),
            ("docs/decisions/0002-b.md", ""),
        ]);
        assert_eq!(paths(&decisions(&repo)), ["docs/decisions/0002-b.md"]);
    }

    #[test]
    fn decisions_that_share_a_number_or_have_none_are_found() {
        let repo = Repo::of(&[
            ("docs/decisions/README.md", "[1](0001-a.md) [2](0001-b.md)"),
            ("docs/decisions/0001-a.md", ""),
            ("docs/decisions/0001-b.md", ""),
            ("docs/decisions/1-c.md", ""),
            ("docs/decisions/notes.md", ""),
        ]);
        let found = ["docs/decisions/0001-b.md", "docs/decisions/1-c.md", "docs/decisions/notes.md"];
        assert_eq!(paths(&decisions(&repo)), found);
    }

    #[test]
    fn a_stream_file_that_does_not_parse_is_found_at_its_line() {
        let repo = Repo::of(&[
            ("streams/lots.toml", "name = \"LOTS\"\nsubjects = [\"lots.*.*\"]\n"),
            ("streams/sales.toml", "name = \"SALES\"\nsubjects = [\n"),
            ("streams/README.md", "name = [\n"),
        ]);
        let findings = streams(&repo);
        assert_eq!(paths(&findings), ["streams/sales.toml"]);
        assert!(findings[0].line >= 2, "{}", findings[0]);
    }
}
