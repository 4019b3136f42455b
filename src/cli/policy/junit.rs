//! Results as JUnit XML, the form that CI systems read.

use crate::cli::policy::report::Report;
use std::fmt::Write;

/// The document: one suite a file, and one more for what is not covered, where that is an error.
pub fn render(report: &Report) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let gaps = if report.coverage_required { report.not_covered.len() } else { 0 };
    let more = gaps + report.broken.len();
    let (tests, failures) = (report.results.len() + more, report.failed() + more);
    let _ = writeln!(xml, "<testsuites name=\"countersign policy test\" tests=\"{tests}\" failures=\"{failures}\">");
    for results in report.results.chunk_by(|a, b| a.file == b.file) {
        let file = escaped(results.first().map_or("", |result| &result.file));
        let failed = results.iter().filter(|result| !result.passed).count();
        let _ = writeln!(xml, "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failed}\">", results.len());
        for result in results {
            let text = (!result.passed).then(|| result.explanation());
            case(&mut xml, &file, &result.name, text.as_deref());
        }
        xml.push_str("  </testsuite>\n");
    }
    all_failed(&mut xml, "policies", "broken", &report.broken);
    all_failed(&mut xml, "coverage", "not covered", &report.not_covered[..gaps]);
    xml.push_str("</testsuites>\n");
    xml
}

/// A suite of what failed, one case each.
fn all_failed(xml: &mut String, suite: &str, failure: &str, names: &[String]) {
    if let n @ 1.. = names.len() {
        let _ = writeln!(xml, "  <testsuite name=\"{suite}\" tests=\"{n}\" failures=\"{n}\">");
        names.iter().for_each(|name| case(xml, suite, name, Some(failure)));
        xml.push_str("  </testsuite>\n");
    }
}

fn case(xml: &mut String, class: &str, name: &str, failure: Option<&str>) {
    let name = escaped(name);
    let _ = match failure {
        None => writeln!(xml, "    <testcase classname=\"{class}\" name=\"{name}\"/>"),
        Some(text) => {
            let (text, first) = (escaped(text), escaped(text.lines().next().unwrap_or_default()));
            writeln!(
                xml,
                "    <testcase classname=\"{class}\" name=\"{name}\">\n      <failure message=\"{first}\">{text}</failure>\n    </testcase>"
            )
        }
    };
}

/// Text that is safe in XML 1.0, in an attribute as between tags. What XML 1.0 cannot carry in any form (section 2.2) is
/// spelled out.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&apos;"),
            // As references: a parser turns the characters themselves into spaces in an attribute, and loses `\r`.
            '\t' | '\n' | '\r' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'.. => safe.push(c),
            c => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
        }
        safe
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::policy::expect::Failure;
    use crate::cli::policy::report::TestResult;
    use proptest::prelude::*;

    #[test]
    fn what_xml_cannot_carry_is_spelled_out() {
        for (text, expected) in [
            ("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&apos;"),
            ("]]>", "]]&gt;"),
            ("\u{0}\u{8}\u{b}\u{1b}", "\\u{0}\\u{8}\\u{b}\\u{1b}"),
            ("\t\n\r", "&#9;&#10;&#13;"),
            ("\u{fffe}\u{ffff}", "\\u{fffe}\\u{ffff}"),
            ("\u{10ffff}é", "\u{10ffff}é"),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }

    #[test]
    fn a_report_is_one_suite_a_file() {
        let result = |file: &str, name: &str, failures: Vec<Failure>| TestResult {
            file: file.into(),
            name: name.into(),
            passed: failures.is_empty(),
            failures,
            trace: vec![],
        };
        let failure = Failure { what: "decision".into(), expected: "Allow".into(), found: "Deny <\u{1}>".into() };
        let report = Report {
            results: vec![result("a.test.yaml", "one", vec![]), result("b.test.yaml", "\"two\"", vec![failure])],
            not_covered: vec!["p/r: no test matches it".into()],
            coverage_required: true,
            ..Report::default()
        };
        let expected = r#"<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="countersign policy test" tests="3" failures="2">
  <testsuite name="a.test.yaml" tests="1" failures="0">
    <testcase classname="a.test.yaml" name="one"/>
  </testsuite>
  <testsuite name="b.test.yaml" tests="1" failures="1">
    <testcase classname="b.test.yaml" name="&quot;two&quot;">
      <failure message="decision: expected Allow, found Deny &lt;\u{1}&gt;">decision: expected Allow, found Deny &lt;\u{1}&gt;</failure>
    </testcase>
  </testsuite>
  <testsuite name="coverage" tests="1" failures="1">
    <testcase classname="coverage" name="p/r: no test matches it">
      <failure message="not covered">not covered</failure>
    </testcase>
  </testsuite>
</testsuites>
"#;
        assert_eq!(render(&report), expected);
    }

    proptest! {
        #[test]
        fn every_text_is_safe(text in any::<String>()) {
            let safe = escaped(&text);
            let allowed = |c: char| matches!(c, '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}');
            prop_assert!(safe.chars().all(allowed) && !safe.contains(['<', '>', '"', '\'']));
            for reference in safe.split('&').skip(1) {
                let name = reference.split_once(';').map(|(name, _)| name).unwrap_or_default();
                prop_assert!(matches!(name, "amp" | "lt" | "gt" | "quot" | "apos" | "#9" | "#10" | "#13"), "{name}");
            }
        }
    }
}
