// header -- a mail's header section, read in place, filtered in pieces and edited, against a reader line by line.
#include "../../Server/Header.hpp"

#include <vector>

#include "../../Server/Address.hpp"
#include "../../Server/Fields.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

struct Line {
    std::string_view octets;  // with its end
    bool kept = true;
};

struct Field {
    std::string name;
    std::vector<Line*> lines;
};

bool blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r\n";
    text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
    return text.substr(0, text.find_last_not_of(blanks) + 1);
}

// Line by line (RFC 5322 2.2): a line that begins with a blank goes on with the one before; an empty one ends it.
struct Reference {
    std::vector<Line> lines;
    std::vector<Field> fields;
    std::string_view rest;

    explicit Reference(std::string_view text) {
        while (!text.empty() && text.front() != '\r' && text.front() != '\n') {
            const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
            lines.push_back({text.substr(0, end)});
            text.remove_prefix(end);
        }
        rest = text;
        Field* last = nullptr;
        for (auto& line : lines) {
            if (!last || !blank(line.octets.front())) last = &fields.emplace_back();
            last->lines.push_back(&line);
        }
        for (auto& field : fields) {
            const auto all = whole(field);
            const auto colon = all.find(':');
            if (colon == all.npos) continue;
            field.name = all.substr(0, colon);
            field.name.erase(field.name.find_last_not_of(" \t\r\n") + 1);
        }
    }
    static std::string whole(const Field& field) {
        std::string out;
        for (const auto* line : field.lines) out += line->octets;
        return out;
    }
    std::vector<std::string> values(std::string_view name) const {
        std::vector<std::string> out;
        for (const auto& field : fields) {
            const auto all = whole(field);
            const auto colon = all.find(':');
            if (colon == all.npos || !same_text(field.name, name)) continue;
            std::string value;
            for (const char c : trimmed(std::string_view(all).substr(colon + 1)))
                if (c != '\r' && c != '\n') value += c;
            out.push_back(value);
        }
        return out;
    }
};

std::string joined(const std::vector<std::string>& all) {
    std::string out;
    for (const auto& one : all) out += one + '|';
    return out;
}

void check_filter(std::string_view text, std::string_view name, fuzz::Chance chance) {
    FieldFilter filter(name);
    std::string kept;
    const std::size_t longest = 1 + chance.below(100);
    auto left = text;
    std::string behind;
    while (!left.empty()) {
        const auto piece = left.substr(0, 1 + chance.below(longest));
        const auto rest = filter.feed(piece, kept);
        behind += rest;
        left.remove_prefix(piece.size());
    }
    filter.finish(kept);
    // What is left has all other fields, in their order, and none of that name.
    const Reference before(text), after(kept);
    if (name.empty()) return fuzz::same(kept + behind, text, "without a name nothing goes");
    fuzz::same(behind, before.rest, "what is behind the header section stays");
    fuzz::require(after.values(name).empty(), "fields of the name go", kept, name);
    std::string others;
    for (const auto& field : before.fields) {
        const auto all = Reference::whole(field);
        const auto colon = all.find(':');
        if (colon == all.npos || !same_text(field.name, name)) others += all;
    }
    fuzz::same(kept, others, "all others stay as they are");
}

}  // namespace

void fuzz::run(Input input) {
    static constexpr std::string_view names[] = {"Subject", "Received", "Date", "x", "Message-ID", ""};
    const auto name = names[input.octet() % std::size(names)];
    const auto chance = input.chance();
    const auto text = input.rest();
    const Message message{std::string(text)};
    const Reference reference(text);

    same(joined(message.headers(name)), joined(reference.values(name)), "each field of that name is found");
    const auto first = message.header(name);
    same(first.has_value(), !reference.values(name).empty(), "the first one, if there is any");
    if (first) {
        same(*first, reference.values(name).front(), "the first one is the first");
        require(first->find_first_of("\r\n") == first->npos, "a value is one line", *first);
    }
    same(hops(message), reference.values("Received").size(), "each Received is a hop");
    check_filter(text, name, chance);

    const auto missing = missing_fields(text, true, "id", "mx.test", 0);
    require(missing.has_value(), "with all of it there is an answer");
    require(missing->size() <= most_missing, "it is no longer than said", *missing);
    const Message completed{*missing + std::string(text)};
    require(!completed.headers("Date").empty() && !completed.headers("Message-ID").empty(), "nothing is missing then");
    same(completed.view().substr(missing->size()), text, "the text stays as it was");
    if (const auto partly = missing_fields(text, false, "id", "mx.test", 0))
        same(*partly, *missing, "what follows a header section does not matter");

    const auto edited = message.edited({.without = std::string(name), .front = "X-New: 1\r\n", .received = {}});
    require(edited.view().starts_with("X-New: 1\r\n"), "what is new comes first");
    require(edited.view().ends_with(reference.rest), "the text from the empty line on stays");
    if (!name.empty()) require(edited.headers(name).empty(), "what goes is gone", edited.view(), name);
}
