// smtpq -- looks after the queue of smtpd, which may be running: lists, holds, releases, cancels, pauses.
#include <Poco/DateTimeFormat.h>
#include <Poco/DateTimeFormatter.h>
#include <sys/stat.h>
#include <Net/SMTP/Relay/PostgresStore.hpp>
#include <Net/SMTP/Relay/SqliteStore.hpp>
#include <Net/SMTP/Server.hpp>
#include <cstdio>
#include <functional>

#include "envelope.hpp"
#include "smtpd/command_line.hpp"
#include "smtpd/log.hpp"
#include "smtpd/privileges.hpp"
#include "smtpd/store.hpp"

using namespace Net::SMTP;

namespace {

enum Status { done = 0, not_found = 1, wrong_use = 2, in_flight = 3, no_queue = 4 };

constexpr const char* usage =
    "Shows the queue of smtpd, and looks after it.\n\n"
    "usage: smtpq [--config FILE | --queue FOLDER | --queue postgresql://...] [--json] COMMAND\n\n"
    "  list                    what is there, the oldest first\n"
    "  show ID                 one message: its recipients, what was said of them, and its header section\n"
    "  hold ID, release ID     keeps it from being tried, lets it be tried again\n"
    "  cancel ID               takes it out of the queue; nobody is told\n"
    "  flush ID|DOMAIN|all     what waits is due now\n"
    "  pause, resume           delivery as a whole, of all who share the queue\n"
    "  stats                   how much there is\n\n"
    "--json: an object in each line. It ends with 0; 1: there is no such message; 2: wrong use; 3: it is\n"
    "being delivered at this moment; 4: the queue can't be reached.\n";

std::string time_text(QueueTime time) {
    if (time == never_due) return "never";
    const auto micro = std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
    return Poco::DateTimeFormatter::format(Poco::Timestamp(micro), Poco::DateTimeFormat::ISO8601_FORMAT);
}

// What strangers have said, for a terminal.
std::string shown(const std::string& text) {
    const auto value = log_value(text);
    return value.front() == '"' ? value.substr(1, value.size() - 2) : value;
}

std::string reply_text(const Reply& reply) {
    if (reply.code == 0) return "";
    return std::to_string(reply.code) + ' ' + reply.status + (reply.status.empty() ? "" : " ") + reply.text;
}

std::string json_of(const QueueItem& item) {
    std::string recipients;
    for (const auto& to : item.to) {
        Object one;
        one.text("to", to.recipient.str()).number("attempts", to.attempts).flag("in_flight", to.in_flight);
        one.text("due", time_text(to.due)).text("host", to.host).text("last", reply_text(to.last));
        recipients += (recipients.empty() ? "" : ",") + one.str();
    }
    Object all;
    all.text("id", item.id).text("from", item.from.str()).number("size", item.size);
    all.text("arrived", time_text(item.arrived)).flag("held", item.held).flag("in_flight", item.in_flight());
    return all.add("recipients", '[' + recipients + ']').str();
}

void print(const QueueItem& item) {
    std::printf("%-24s %10llu  %s  <%s>%s\n", shown(item.id).c_str(), static_cast<unsigned long long>(item.size),
                time_text(item.arrived).c_str(), shown(item.from.str()).c_str(), item.held ? "  held" : "");
    for (const auto& to : item.to) {
        const auto when = to.in_flight ? "now" : item.held ? "when released" : time_text(to.due);
        std::printf("    <%s>  tried %u times, next %s\n", shown(to.recipient.str()).c_str(), to.attempts,
                    when.c_str());
        if (to.last.code != 0)
            std::printf("        %s%s\n", to.host.empty() ? "" : (shown(to.host) + ": ").c_str(),
                        shown(reply_text(to.last)).c_str());
    }
}

class Tool {
public:
    Tool(Store& store, bool json) : store_(store), json_(json) {}

    Status run(const std::vector<std::string>& words) {
        const struct {
            const char* name;
            bool of_one;
            Status (Tool::*act)(const std::string&);
        } commands[]{
            {"list", false, &Tool::list},      {"show", true, &Tool::show},      {"hold", true, &Tool::hold},
            {"release", true, &Tool::release}, {"cancel", true, &Tool::cancel},  {"flush", true, &Tool::flush},
            {"pause", false, &Tool::pause},    {"resume", false, &Tool::resume}, {"stats", false, &Tool::stats}};
        for (const auto& command : commands)
            if (words.front() == command.name && words.size() == (command.of_one ? 2U : 1U))
                return (this->*command.act)(words.back());
        std::fputs(usage, stderr);
        return wrong_use;
    }

private:
    // By pages, however much there is. What comes meanwhile may be on the last one.
    Status list(const std::string&) {
        std::int64_t after = 0;
        for (;;) {
            const auto page = store_.items(after, 1000);
            for (const auto& item : page) {
                if (json_) std::puts(json_of(item).c_str());
                else print(item);
            }
            if (page.empty() || std::ferror(stdout)) return done;
            after = page.back().message;
        }
    }
    Status show(const std::string& id) {
        const auto item = store_.item(id);
        if (!item) return missing(id);
        if (json_) return std::puts(json_of(*item).c_str()), done;
        print(*item);
        const auto message = store_.look(id);
        std::string text(message ? std::min<std::uint64_t>(message->size(), 1 << 20) : 0, '\0');
        if (message) text.resize(message->read(0, text.data(), text.size()));
        std::puts("");
        for (std::size_t begin = 0; begin < text.size();) {
            const auto end = std::min(text.find("\r\n", begin), text.size());
            if (end == begin) break;
            const bool folded = text[begin] == ' ' || text[begin] == '\t';
            std::printf("%s%s\n", folded ? "    " : "", shown(trimmed(text.substr(begin, end - begin))).c_str());
            begin = end + 2;
        }
        return done;
    }
    Status hold(const std::string& id) { return store_.hold(id) ? said("held", id) : missing(id); }
    Status release(const std::string& id) { return store_.release(id) ? said("released", id) : missing(id); }
    Status cancel(const std::string& id) {
        switch (store_.cancel(id)) {
            case Cancelled::found: return said("cancelled", id);
            case Cancelled::in_flight: return said("in flight", id), in_flight;
            case Cancelled::not_found: break;
        }
        return missing(id);
    }
    Status flush(const std::string& what) {
        std::uint64_t count = 0;
        bool found = true;
        if (what == "all") count = store_.flush_all();
        else if (store_.item(what)) count = store_.flush(what);
        else found = (count = store_.flush_domain(lower_case(what))) != 0;
        if (!found) return missing(what);
        if (json_) std::puts(Object().number("flushed", count).str().c_str());
        else std::printf("%llu recipients are due now\n", static_cast<unsigned long long>(count));
        return done;
    }
    Status pause(const std::string&) { return set_paused(true); }
    Status resume(const std::string&) { return set_paused(false); }
    Status set_paused(bool paused) {
        store_.set("paused", paused ? "1" : "0");
        if (json_) std::puts(Object().flag("paused", paused).str().c_str());
        else std::puts(paused ? "paused" : "resumed");
        return done;
    }
    Status stats(const std::string&) {
        const auto now = store_.stats();
        const bool paused = store_.setting("paused").value_or("") == "1";
        const auto oldest = now.oldest ? time_text(*now.oldest) : "";
        if (json_) {
            Object all;
            all.number("messages", now.messages).number("recipients", now.recipients).number("held", now.held);
            all.number("in_flight", now.in_flight).number("octets", now.octets).flag("paused", paused);
            std::puts(all.text("oldest", oldest).text("store", store_.name()).str().c_str());
            return done;
        }
        const auto row = [](const char* name, std::uint64_t n) {
            std::printf("%-12s %12llu\n", name, static_cast<unsigned long long>(n));
        };
        row("messages", now.messages);
        row("recipients", now.recipients);
        row("held", now.held);
        row("in flight", now.in_flight);
        row("octets", now.octets);
        std::printf("%-12s %12s\n%-12s %s\n", "paused", paused ? "yes" : "no", "oldest", oldest.c_str());
        return done;
    }

    Status said(const std::string& what, const std::string& id) {
        if (json_) std::puts(Object().text("id", id).text("result", what).str().c_str());
        else std::printf("%s %s\n", shown(id).c_str(), what.c_str());
        return done;
    }
    Status missing(const std::string& id) { return said("not found", id), not_found; }

    Store& store_;
    const bool json_;
};

// As root we would leave files there that the daemon can't open: we become who owns the folder.
void become_owner(const std::string& folder) {
    struct stat status {};
    // Nor is one to be made where a name was mistyped.
    if (stat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) ||
        access((folder + "/queue.db").c_str(), F_OK) != 0)
        throw StoreError("there is no queue in " + folder, {451, "4.3.0", ""});
    if (geteuid() != 0 || status.st_uid == 0) return;
    if (setgroups(0, nullptr) != 0 || setresgid(status.st_gid, status.st_gid, status.st_gid) != 0 ||
        setresuid(status.st_uid, status.st_uid, status.st_uid) != 0)
        throw std::system_error(errno, std::generic_category(), "become the owner of " + folder);
}

}  // namespace

int main(int argc, char** argv) try {
    const CommandLine line(argc, argv);
    if (line.help) return std::fputs(usage, stdout), done;
    const Settings given(line.options, line.config);
    if (line.words.empty()) return std::fputs(usage, stderr), wrong_use;
    const auto queue = given.text("queue");
    if (!is_database(queue)) become_owner(Settings::absolute(queue));
    const auto store = open_store(given);
    const auto status = Tool(*store, line.json).run(line.words);
    return std::fflush(stdout) == 0 ? status : no_queue;
} catch (const BadConfig& e) {
    std::fprintf(stderr, "smtpq: %s\n", e.what());
    return wrong_use;
} catch (const std::exception& e) {
    std::fprintf(stderr, "smtpq: %s\n", e.what());
    return no_queue;
}
