// log -- the daemon's log: one line for each session, mail, event of the queue and trouble, as key=value.
#pragma once

#include <Poco/AutoPtr.h>
#include <Poco/Channel.h>
#include <Poco/Message.h>
#include <Poco/SyslogChannel.h>

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>
#include <string_view>

#include <Net/SMTP/Relay/Queue.hpp>
#include <Net/SMTP/Server.hpp>

#include "log_file.hpp"
#include "settings.hpp"

// What anybody may have said, as a value: without controls, in quotes where it needs them, and no longer than 320
// octets.
inline std::string log_value(std::string_view text) {
    constexpr std::size_t most = 320;
    std::string out;
    bool plain = !text.empty();
    for (const char c : text.substr(0, most)) {
        const auto octet = static_cast<unsigned char>(c);
        if (octet > 32 && octet < 127 && c != '"' && c != '\\' && c != '=') {
            out += c;
            continue;
        }
        plain = false;
        char hex[5];
        std::snprintf(hex, sizeof hex, "\\x%02X", octet);
        out += c == ' ' || c == '=' ? std::string(1, c) : std::string(hex);
    }
    if (text.size() > most) out += "...";
    return plain ? out : '"' + out + '"';
}

// Root that is to be somebody without its rights: see open_to_append().
inline bool becomes_another(const Settings& given) { return geteuid() == 0 && !given.text("user").empty(); }

// Any thread may write.
class Log {
public:
    // std::system_error when the file can't be written.
    explicit Log(const Settings& given) : name_(given.text("name").empty() ? "smtpd" : given.text("name")) {
        const auto where = given.text("log");
        if (where == "stderr") {
            file_ = std::make_unique<LogFile>();
        } else if (where == "syslog") {
            syslog_ = new Poco::SyslogChannel(name_, Poco::SyslogChannel::SYSLOG_PID, Poco::SyslogChannel::SYSLOG_MAIL);
            syslog_->open();
        } else if (where != "none") {
            file_ = std::make_unique<LogFile>(Settings::absolute(where), becomes_another(given));
            file_->open();
        }
    }

    void line(std::string_view text,
              Poco::Message::Priority priority = Poco::Message::PRIO_INFORMATION) const noexcept {
        try {
            if (file_) file_->write_line(text);
            if (syslog_) syslog_->log(Poco::Message(name_, std::string(text), priority));
        } catch (...) {
            // a log that can't be written must not stop the mail
        }
    }
    // "time=... event=NAME" and what follows.
    void event(const std::string& name, const std::string& rest) const noexcept try {
        line("time=" + now() + " event=" + name + ' ' + rest);
    } catch (const std::exception&) {
        // a lack of memory
    }
    void trouble(std::string_view what, std::string_view more = {}) const noexcept try {
        line("time=" + now() + " event=trouble what=" + log_value(std::string(what).append(more)),
             Poco::Message::PRIO_WARNING);
    } catch (const std::exception&) {
        // the same
    }
    // A file that was moved away is begun anew.
    void reopen() noexcept try {
        if (file_) file_->open();
        if (syslog_) syslog_->open();
    } catch (const std::exception& e) {
        trouble(e.what());
    }
    // Whoever we become must be able to do that.
    void give_to(uid_t user, gid_t group) const noexcept try {
        if (file_) file_->give_to(user, group);
    } catch (const std::exception& e) {
        trouble(e.what());
    }

    // What becomes of mail in the queue; the log must live as long as it.
    void listen(Net::SMTP::Queue& queue) const {
        using Net::SMTP::Event;
        queue.on<Event::Queued>([this](Event::Queued& e) {
            event("queued", mail(e) + " to=" + std::to_string(e.to.size()) +
                                " size=" + std::to_string(e.message.size()) + " message=" + log_value(e.message.id()));
        });
        queue.on<Event::Sent>([this](Event::Sent& e) { event("sent", delivery(e)); });
        queue.on<Event::Deferred>([this](Event::Deferred& e) {
            const auto wait = std::chrono::duration_cast<std::chrono::seconds>(e.next - Net::SMTP::queue_now());
            event("deferred", delivery(e) + " next=" + std::to_string(std::max<std::int64_t>(wait.count(), 0)));
        });
        queue.on<Event::Failed>(
            [this](Event::Failed& e) { event("failed", delivery(e) + " expired=" + (e.expired ? "true" : "false")); });
        queue.on<Event::Bounced>([this](Event::Bounced& e) {
            event("bounced", mail(e) + " by=" + log_value(e.bounce) + " about=" + std::to_string(e.about.size()));
        });
    }

private:
    static std::string now() {
        const auto time = std::chrono::system_clock::now();
        const auto seconds = std::chrono::system_clock::to_time_t(time);
        const auto rest = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count() % 1000;
        std::tm utc{};
        gmtime_r(&seconds, &utc);
        char text[40];
        const auto size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
        std::snprintf(text + size, sizeof text - size, ".%03dZ", static_cast<int>(rest));
        return text;
    }
    static std::string mail(const Net::SMTP::Event::OfQueue& e) {
        return "id=" + log_value(e.id) + " from=" + log_value('<' + e.from.str() + '>');
    }
    static std::string delivery(const Net::SMTP::Event::OfDelivery& e) {
        return mail(e) + " to=" + log_value('<' + e.recipient.str() + '>') + " host=" + log_value(e.host) +
               " attempt=" + std::to_string(e.attempt) + " code=" + std::to_string(e.reply.code) +
               " status=" + log_value(e.reply.status) + " text=" + log_value(e.reply.text);
    }

    const std::string name_;
    std::unique_ptr<LogFile> file_{};
    mutable Poco::AutoPtr<Poco::Channel> syslog_{};
};
