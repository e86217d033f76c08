// arriving -- a mail that arrives at a server with plugins, octet for octet, and header sections to send.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dialogue.hpp"
#include "target.hpp"

namespace test {

using Plugins = std::vector<std::shared_ptr<Plugin>>;

// The plugins under the names "0", "1", ... behind the setup's own listeners.
inline Setup with(const Plugins& plugins, Setup setup = {}) {
    setup.listeners = [plugins, before = setup.listeners](Server& s) {
        for (std::size_t i = 0; i < plugins.size(); ++i) s.pipeline().add(std::to_string(i), plugins[i]);
        if (before) before(s);
    };
    return setup;
}

// A plugin that does that with a message.
inline std::shared_ptr<Plugin> doing(std::function<void(Event::Arrived&)> action) {
    auto plugin = std::make_shared<Plugin>();
    plugin->on<Event::Arrived>(std::move(action));
    return plugin;
}

struct Arrived {
    std::string reply;        // to the text, all lines of it that came
    std::vector<Mail> mails;  // that the program saw
    std::vector<std::string> troubles;
};

// One mail from <a@b> to <c@d>, as it is, by BDAT, which says nothing about line ends.
inline Arrived arrive(const std::string& text, Setup setup) {
    Talk talk(std::move(setup));
    talk.play("S: 220\nC: EHLO me\nS: 250\nC: MAIL FROM:<a@b>\nS: 250\nC: RCPT TO:<c@d>\nS: 250\n");
    talk.wire.send("BDAT " + std::to_string(text.size()) + " LAST\r\n" + text);
    Arrived arrived{talk.wire.reply(), {}, {}};
    talk.play("C: QUIT\nS: 221\nS: EOF");
    arrived.mails = talk.end();
    arrived.troubles = talk.troubles();
    return arrived;
}

// What the program saw of it; the only mail.
inline Mail seen(const std::string& text, Setup setup) {
    const auto arrived = arrive(text, std::move(setup));
    CHECK(arrived.reply.starts_with("250 "));
    CHECK(arrived.troubles.empty());
    REQUIRE(arrived.mails.size() == 1);
    return arrived.mails[0];
}

inline Setup taking_all(Options options = brief()) {
    Setup setup;
    options.bare_line_ends = BareLineEnds::accept;
    setup.options = std::move(options);
    return setup;
}
// Everything goes into files.
inline Setup in_files(const Folder& spool) {
    auto options = brief();
    options.spool_above = 0;
    options.spool_dir = spool.path;
    return taking_all(options);
}

inline Message in_file(const std::string& text) {
    auto content = std::make_shared<Content>(nullptr);
    content->file = unnamed_file("/tmp");
    write_all(content->file.get(), text.data(), text.size());
    content->size = text.size();
    return Message(content);
}

// Line by line: a text without its fields of that name, which is in small letters.
inline std::string without(const std::string& name, const std::string& text) {
    std::vector<std::string> fields;
    std::size_t at = 0;
    while (at < text.size() && text[at] != '\r' && text[at] != '\n') {
        const auto end = std::min(text.find('\n', at), text.size() - 1) + 1;
        const auto line = text.substr(at, end - at);
        if (!fields.empty() && (line[0] == ' ' || line[0] == '\t')) fields.back() += line;
        else fields.push_back(line);
        at = end;
    }
    std::string out;
    for (const auto& field : fields) {
        auto called = field.substr(0, field.find(':'));
        while (!called.empty() && std::string_view(" \t\r\n").find(called.back()) != std::string_view::npos)
            called.pop_back();
        for (auto& c : called)
            if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
        if (called != name || called.size() == field.size() || field.find(':') == field.npos) out += field;
    }
    return out + text.substr(at);
}

// 2 MB with many line ends, a small part of which is CRLF.
inline const std::string& long_body() {
    static const std::string text = [] {
        const auto some = octets(99'998, "abcdefghijklmnopqrstuvwxyz\r\n") + "\r\n";
        std::string out;
        for (int i = 0; i < 20; ++i) out += some;
        return out;
    }();
    return text;
}

inline std::size_t count(const std::string& text, const std::string& what) {
    std::size_t n = 0;
    for (auto at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++n;
    return n;
}

}  // namespace test
