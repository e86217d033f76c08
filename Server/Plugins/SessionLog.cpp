#include "SessionLog.hpp"

#include <algorithm>
#include <chrono>
#include <concepts>
#include <utility>

#include "LogText.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t longest = 322;  // octets of a value; a path has no more

// One line, field by field.
class Line {
public:
    Line(SessionLog::Format format, std::string_view event) : json_(format == SessionLog::Format::json) {
        text_.reserve(400);  // most have less
        add("time", log_time(std::chrono::system_clock::now()));
        add("event", event);
    }
    void add(std::string_view key, std::string_view value) {
        begin(key);
        if (json_) return append_json_text(text_, value, longest);
        const auto splits = [](char c) { return c == ' ' || c == '"' || c == '='; };
        const bool quoted = value.empty() || value.size() > longest || std::ranges::any_of(value, splits);
        if (!quoted) return append_log_text(text_, value, longest);
        text_ += '"';
        append_log_text(text_, value, longest, "\"");
        text_ += '"';
    }
    void add(std::string_view key, std::integral auto value) {
        begin(key);
        text_ += std::to_string(value);
    }
    std::string end() && {
        if (json_) text_ += '}';
        return std::move(text_);
    }

private:
    void begin(std::string_view key) {
        if (!json_) return void((text_.empty() ? text_ : text_ += ' ').append(key) += '=');
        ((text_ += text_.empty() ? '{' : ',') += '"').append(key).append("\":");
    }
    const bool json_;
    std::string text_;
};

void add_who(Line& line, const Watch::Session& s) {
    line.add("server", s.server);
    line.add("session", s.id);
    line.add("peer", s.peer);
    line.add("helo", s.helo);
    line.add("tls", s.tls_version);
    line.add("cipher", s.tls_cipher);
    line.add("user", s.user);
}

void add_end(Line& line, std::string_view why, Watch::Clock::time_point began, Watch::Clock::time_point ended) {
    line.add("why", why);
    line.add("ms", std::chrono::duration_cast<std::chrono::milliseconds>(ended - began).count());
}

std::string told(SessionLog::Format format, const Watch::Session& s, const Watch::Mail& m) {
    Line line(format, "mail");
    add_who(line, s);
    line.add("id", m.id);
    line.add("from", '<' + m.from + '>');
    line.add("to", m.recipients);
    line.add("refused", m.refused);
    line.add("size", m.size);
    line.add("code", m.verdict.code);
    line.add("status", m.verdict.status);
    line.add("taken", m.taken);
    line.add("answers", m.answers);
    add_end(line, name(m.end), m.began, m.ended);
    return std::move(line).end();
}

std::string told(SessionLog::Format format, const Watch::Session& s) {
    Line line(format, "session");
    add_who(line, s);
    line.add("mails", s.mails);
    line.add("refused", s.refused);
    line.add("bytes", s.bytes);
    line.add("commands", s.commands);
    line.add("code", s.last.code);
    line.add("status", s.last.status);
    add_end(line, s.why(), s.began, s.ended);
    return std::move(line).end();
}

}  // namespace

SessionLog::SessionLog(Write write, Format format)
    : watch_({.mail = [=](const Watch::Session& s, const Watch::Mail& m) { write(told(format, s, m)); },
              .session = [=](const Watch::Session& s) { write(told(format, s)); }}) {}

}  // namespace Net::SMTP
