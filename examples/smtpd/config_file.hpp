// config_file -- reads a file of options by Poco: properties, JSON or XML. Values are taken as they are written there.
#pragma once

#include <Poco/DOM/DOMException.h>
#include <Poco/JSON/ParseHandler.h>
#include <Poco/JSON/Parser.h>
#include <Poco/Util/PropertyFileConfiguration.h>
#include <Poco/Util/XMLConfiguration.h>

#include <cctype>
#include <cerrno>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "option.hpp"

// What the configuration can't be; what() names file, line and option. It ends the daemon with 2.
struct BadConfig : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A value that was given to an option, and where.
struct Given {
    std::string name, value, where;
    bool one_entry = false;  // of a list: it is not parted by commas
};

namespace config_file {

// "listen", "listen.2" and "listen[2]" are of one list.
inline Given entry(const std::string& key, const std::string& value, const std::string& where) {
    const auto end = key.find_first_of(".[");
    if (end == key.npos) return {key, value, where};
    for (const char c : key.substr(end + 1))
        if (!std::isdigit(static_cast<unsigned char>(c)) && c != ']') return {key, value, where};
    return {key.substr(0, end), value, where, true};
}

// Each logical line is read for itself, so that its number is known and nothing is lost to a later line of the same
// name.
inline std::vector<Given> properties(std::istream& in, const std::string& file) {
    std::vector<Given> all;
    std::map<std::string, std::string> first_in;
    const auto add = [&](const std::string& key, const std::string& value, const std::string& where) {
        const auto [first, is_new] = first_in.try_emplace(key, where);
        if (!is_new) throw BadConfig(where + ": " + key + " is there twice, first in " + first->second);
        all.push_back(entry(key, value, where));
    };
    std::string line;
    for (std::size_t number = 1, next = 2; std::getline(in, line); number = next++) {
        const auto where = file + ':' + std::to_string(number);
        const auto first = trimmed(line).substr(0, 1);
        if (first.empty() || first == "#" || first == "!") continue;
        const auto goes_on = [&] {
            const auto end = line.find_last_not_of('\r');
            const auto text = line.substr(0, end + 1);
            const auto before = text.find_last_not_of('\\');
            return (text.size() - (before == text.npos ? 0 : before + 1)) % 2 == 1;
        };
        for (std::string more; goes_on() && std::getline(in, more); ++next) line += '\n' + more;
        std::istringstream one(line);
        const Poco::AutoPtr<Poco::Util::PropertyFileConfiguration> read(new Poco::Util::PropertyFileConfiguration(one));
        std::vector<std::string> keys;
        read->keys(keys);
        // Poco splits "a.1" into levels.
        for (const auto& key : keys) {
            std::vector<std::string> below;
            read->keys(key, below);
            if (below.empty()) add(key, read->getRawString(key), where);
            for (const auto& name : below) {
                const auto whole = key + '.' + name;
                add(whole, read->getRawString(whole, ""), where);
            }
        }
    }
    return all;
}

// Poco keeps the last of two members of one name, and says nothing.
class NoTwins : public Poco::JSON::ParseHandler {
public:
    void startObject() override {
        names_.emplace_back();
        ParseHandler::startObject();
    }
    void endObject() override {
        names_.pop_back();
        ParseHandler::endObject();
    }
    void key(const std::string& name) override {
        if (!names_.back().insert(name).second) throw Poco::DataException(name + " is there twice");
        ParseHandler::key(name);
    }

private:
    std::vector<std::set<std::string>> names_;
};

inline std::vector<Given> json(std::istream& in, const std::string& file) {
    Poco::JSON::Parser parser(new NoTwins);
    const auto object = parser.parse(in).extract<Poco::JSON::Object::Ptr>();
    std::vector<std::string> names;
    object->getNames(names);
    std::vector<Given> all;
    const auto add = [&](const std::string& name, const Poco::Dynamic::Var& value, bool one_entry) {
        const bool plain = value.isString() || value.isNumeric() || value.isBoolean();
        if (!plain) throw Poco::DataException(name + " is neither a text, a number, true nor false");
        all.push_back({name, value.convert<std::string>(), file, one_entry});
    };
    for (const auto& name : names) {
        if (!object->isArray(name)) {
            add(name, object->get(name), false);
            continue;
        }
        const auto values = object->getArray(name);
        for (std::size_t i = 0; i < values->size(); ++i) add(name, values->get(static_cast<unsigned>(i)), true);
        if (values->size() == 0) all.push_back({name, "", file, true});
    }
    return all;
}

// An element for each option, of any name around them; of a list several.
inline std::vector<Given> xml(std::istream& in, const std::string& file) {
    const Poco::AutoPtr<Poco::Util::XMLConfiguration> read(new Poco::Util::XMLConfiguration(in));
    std::vector<std::string> keys;
    read->keys(keys);
    std::vector<Given> all;
    for (const auto& key : keys) {
        std::vector<std::string> below;
        read->keys(key, below);
        if (!below.empty()) throw Poco::DataException(key + " has elements below it, or attributes");
        all.push_back(entry(key, read->getRawString(key), file));
    }
    return all;
}

inline std::vector<Given> read(const std::string& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) throw BadConfig(file + ": " + std::generic_category().message(errno));
    try {
        auto all = file.ends_with(".json")  ? json(in, file)
                   : file.ends_with(".xml") ? xml(in, file)
                                            : properties(in, file);
        if (in.bad()) throw BadConfig(file + ": can't be read");
        return all;
    } catch (const Poco::Exception& e) {
        throw BadConfig(file + ": " + e.displayText());
    }
}

}  // namespace config_file
