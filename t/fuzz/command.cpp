// command -- a command line taken apart: nothing of it is lost, and the verb is whichever stands in front.
#include "../../Server/Command.hpp"

#include "../../Server/Address.hpp"
#include "fuzz.hpp"

using namespace Net::SMTP;

namespace {

bool blank(char c) { return c == ' ' || c == '\t'; }

std::string_view trimmed(std::string_view line) {
    while (!line.empty() && blank(line.back())) line.remove_suffix(1);
    return line;
}

// The slow way: every verb there is, letter by letter.
Verb reference(std::string_view word) {
    std::string capitals;
    for (const char c : word) capitals += c >= 'a' && c <= 'z' ? char(c - 32) : c;
    for (int v = 0; v < int(Verb::unknown); ++v)
        if (capitals == name(Verb(v))) return Verb(v);
    return Verb::unknown;
}

}  // namespace

void fuzz::run(Input input) {
    const auto line = input.rest();
    const auto command = Command::parse(line);
    const auto all = trimmed(line);

    require(all.starts_with(command.name), "the name stands in front", all, command.name);
    for (const char c : command.name) require(!blank(c), "no blank is in a name", command.name);
    if (command.name.size() < all.size()) {
        require(blank(all[command.name.size()]), "a blank ends the name", all);
        same(all.substr(command.name.size() + 1), command.argument, "the argument is all that is behind one blank");
    } else {
        require(command.argument.empty(), "no argument without a blank", command.argument);
    }
    require(command.argument.empty() || !blank(command.argument.back()), "no blanks behind", command.argument);
    same(int(command.verb), int(reference(command.name)), "the verb is the name's, whatever its case");
    require(command.verb == Verb::unknown || same_text(name(command.verb), command.name), "and the name is the verb's");
}
