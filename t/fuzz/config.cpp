// config -- the daemon's configuration, in each of its forms: what is wrong is named, what is right can be asked for.
#include <array>
#include <sstream>

#include "../../examples/smtpd/command_line.hpp"
#include "fuzz.hpp"

using fuzz::require;

namespace {

// A refusal is one for people, and says where.
void check_refusal(std::string_view what) { require(!what.empty() && what.size() < 100'000, "it says what is wrong"); }

std::vector<Given> read(int form, const std::string& text) {
    std::istringstream in(text);
    switch (form) {
        case 0: return config_file::json(in, "file");
        case 1: return config_file::xml(in, "file");
        default: return config_file::properties(in, "file");
    }
}

// The words are parted by NULs.
CommandLine command_line(std::string text) {
    text = "smtpd" + std::string(1, '\0') + text + '\0';
    std::vector<char*> words;
    for (std::size_t at = 0; at < text.size(); at = text.find('\0', at) + 1) words.push_back(text.data() + at);
    return CommandLine(int(words.size()), words.data());
}

// Whatever was let in can be asked for as what it is.
void check_settings(const Settings& settings) {
    for (const auto& option : option_table()) {
        const std::string name(option.name);
        const auto list = settings.list(name);
        if (!settings.given(name)) continue;
        if (option.kind == Kind::flag) settings.flag(name);
        if (option.kind == Kind::number) settings.number(name);
        if (option.kind == Kind::period) settings.period(name);
        if (option.kind == Kind::path) {
            const auto path = settings.text(name);
            require(path.empty() || path.starts_with('/'), "a path is absolute", path);
        }
        for (const auto& value : list) require(value.find('\0') == value.npos, "no value holds a NUL", value);
        if (option.kind != Kind::list && option.kind != Kind::entries)
            require(list.size() <= 1, "it has one value", name);
    }
    settings.warnings();
    require(settings.for_restart(settings).empty(), "nothing differs from itself");
}

}  // namespace

void fuzz::run(Input input) {
    const int form = input.octet() % 4;
    const std::string text(input.rest());
    try {
        const auto given = form == 3 ? command_line(text).options : read(form, text);
        for (const auto& one : given) require(!one.where.empty(), "it is known where a value came from", one.name);
        check_settings(Settings(given, ""));
    } catch (const BadConfig& e) {
        check_refusal(e.what());
    } catch (const Poco::Exception& e) {
        check_refusal(e.displayText());
    }
}
