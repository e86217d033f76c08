// command_line -- what stands behind a program's name: "--config FILE", "--name value" for each option, and words.
#pragma once

#include <string>
#include <vector>

#include "config_file.hpp"
#include "settings.hpp"

struct CommandLine {
    std::string config{};  // made absolute: the daemon may leave its folder
    bool help = false, check = false, json = false;
    std::vector<Given> options{};
    std::vector<std::string> words{};

    // "--name=value" is as good, and a flag's value may be left away: true. BadConfig.
    CommandLine(int argc, char** argv) {
        const auto is_flag_value = [](const std::string& text) {
            try {
                return to_flag(text), true;
            } catch (const std::invalid_argument&) {
                return false;
            }
        };
        for (int i = 1; i < argc; ++i) {
            const std::string word = argv[i];
            if (!word.starts_with("--")) {
                if (word == "-h") help = true;
                else if (word.starts_with('-')) throw BadConfig(word + ": there is no such option; see --help");
                else words.push_back(word);
                continue;
            }
            const auto equals = word.find('=');
            const auto name = word.substr(2, equals == word.npos ? equals : equals - 2);
            const auto* option = option_named(name);
            const bool flag = option && option->kind == Kind::flag;
            if (equals == word.npos && mark(name)) continue;
            std::string value = "true";
            if (equals != word.npos) value = word.substr(equals + 1);
            else if (i + 1 < argc && (!flag || is_flag_value(argv[i + 1]))) value = argv[++i];
            else if (!flag && (option || name == "config")) throw BadConfig(word + ": its value is missing");
            if (name == "config") config = Settings::absolute(value);
            else options.push_back({name, value, Settings::command_line, option && option->kind == Kind::entries});
        }
    }

private:
    bool mark(const std::string& name) {
        if (name == "help") return help = true;
        if (name == "check") return check = true;
        if (name == "json") return json = true;
        if (name == "all") return words.push_back(name), true;  // smtpq flush --all
        return false;
    }
};
