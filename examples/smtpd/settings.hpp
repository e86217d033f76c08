// settings -- the options of the daemon as they were given: on the command line, or else in the file that it names.
#pragma once

#include <sys/stat.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "config_file.hpp"
#include "table.hpp"

// Of the option `queue`: a PostgreSQL's URL, else it is a folder.
inline bool is_database(const std::string& queue) {
    return queue.starts_with("postgresql://") || queue.starts_with("postgres://");
}

// A value; what it was read from is not looked at again. BadConfig for an option that is unknown, there twice, or of a
// value it can't have.
class Settings {
public:
    // What is on the command line wins, option by option.
    Settings(const std::vector<Given>& first, const std::string& file) : file_(file) {
        std::map<std::string, std::vector<Given>> chosen;
        for (const auto& given : first) chosen[checked(given).name].push_back(given);
        if (!file.empty()) {
            std::map<std::string, std::vector<Given>> there;
            for (const auto& given : config_file::read(file)) there[checked(given).name].push_back(given);
            for (auto& [name, values] : there) chosen.try_emplace(name, std::move(values));
        }
        for (auto& [name, values] : chosen) settle(*option_named(name), values);
    }

    bool given(const std::string& name) const { return values_.contains(name); }
    // What was given, or the table's default.
    std::string text(const std::string& name) const {
        const auto found = values_.find(name);
        const auto& option = known(name);
        const auto value =
            found == values_.end() || found->second.empty() ? std::string(option.otherwise) : found->second.front();
        return option.kind == Kind::path ? absolute(value) : value;
    }
    bool flag(const std::string& name) const { return to_flag(text(name)); }
    std::uint64_t number(const std::string& name) const { return to_number(text(name)); }
    std::chrono::seconds period(const std::string& name) const { return to_period(text(name)); }
    std::vector<std::string> list(const std::string& name) const {
        const auto found = values_.find(name);
        if (found != values_.end()) return found->second;
        return parted(known(name).otherwise, ',');
    }
    std::vector<std::string> paths(const std::string& name) const {
        auto all = list(name);
        for (auto& path : all) path = absolute(path);
        return all;
    }

    // Says what is wrong with an option that looks right by itself.
    [[noreturn]] void refuse(const std::string& name, const std::string& why) const {
        const auto where = where_.find(name);
        throw BadConfig((where == where_.end() ? "" : where->second + ": ") + name + ": " + why +
                        "; valid: " + known(name).valid);
    }

    // What should be told, but ends nothing.
    std::vector<std::string> warnings() const {
        std::vector<std::string> all;
        for (const auto& [name, values] : values_) {
            const bool secret = known(name).kind == Kind::secret || (name == "queue" && holds_password(values.front()));
            if (!secret || values.front().empty()) continue;
            if (where_.at(name) == command_line) all.push_back(name + " on the command line is shown by ps");
            else if (open_to_others(file_)) all.push_back("others than its owner may read " + name + " in " + file_);
        }
        for (const char* name : {"relay_pass_file", "tls_key"})
            for (const auto& path : paths(name))
                if (!path.empty() && open_to_others(path)) all.push_back("others than its owner may read " + path);
        if (const auto queue = text("queue"); !is_database(queue) && open_to_others(absolute(queue)))
            all.push_back("others than its owner may go into the queue's folder " + queue +
                          ": it should have mode 0700");
        return all;
    }
    // Those that differ, and that nobody takes up before a restart.
    std::vector<std::string> for_restart(const Settings& now) const {
        std::vector<std::string> names;
        for (const auto& option : option_table())
            if (!option.at_once && list(option.name) != now.list(option.name)) names.push_back(option.name);
        return names;
    }

    static constexpr const char* command_line = "command line";
    // From the folder where the program was started.
    static std::string absolute(const std::string& path) {
        static const auto start = std::filesystem::current_path();
        return path.empty() || path.starts_with('/') ? path : (start / path).lexically_normal().string();
    }

private:
    static const Option& known(const std::string& name) {
        if (const auto* option = option_named(name)) return *option;
        throw std::logic_error("not in the table: " + name);
    }
    static const Given& checked(const Given& given) {
        if (option_named(given.name)) return given;
        std::string names;
        for (const auto& option : option_table()) names += (names.empty() ? "" : ", ") + std::string(option.name);
        throw BadConfig(given.where + ": " + given.name + ": there is no such option; valid: " + names);
    }
    void settle(const Option& option, const std::vector<Given>& all) {
        const bool several = option.kind == Kind::list || option.kind == Kind::entries;
        auto& values = values_[option.name];
        const auto& first = all.front();
        where_[option.name] = first.where;
        for (const auto& given : all) {
            if (given.one_entry && !several) throw BadConfig(given.where + ": " + option.name + " is no list");
            if (&given != &first && !several) throw BadConfig(given.where + ": " + option.name + " is there twice");
            const bool whole = option.kind != Kind::list || given.one_entry;
            for (auto& value : whole ? std::vector<std::string>{given.value} : parted(given.value, ','))
                if (!several || !value.empty()) values.push_back(check(option, std::move(value), given.where));
        }
    }
    static std::string check(const Option& option, std::string value, const std::string& where) {
        try {
            if (value.find('\0') != value.npos) throw std::invalid_argument("holds a NUL");
            if (option.kind == Kind::flag) to_flag(value);
            if (option.kind == Kind::number) to_number(value);
            if (option.kind == Kind::period) to_period(value);
            if (option.check) option.check(value);
            return value;
        } catch (const std::exception& e) {
            throw BadConfig(where + ": " + option.name + " '" + value + "': " + e.what() + "; valid: " + option.valid);
        }
    }
    static bool open_to_others(const std::string& path) {
        struct stat status {};
        return stat(path.c_str(), &status) == 0 && (status.st_mode & 077) != 0;
    }
    static bool holds_password(const std::string& url) {
        const auto at = url.find('@'), host = url.find("://");
        if (host == url.npos) return false;
        return url.find("password=") != url.npos ||
               (at != url.npos && url.substr(host + 3, at - host - 3).find(':') != url.npos);
    }

    std::string file_;
    std::map<std::string, std::vector<std::string>> values_;
    std::map<std::string, std::string> where_;
};
