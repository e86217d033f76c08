#include "MailServer.hpp"

#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <exception>
#include <list>
#include <map>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "../Client.hpp"
#include "../Event.hpp"
#include "../Message.hpp"
#include "Octets.hpp"
#include "Wire.hpp"

namespace Net::SMTP::Test {

namespace {

using namespace std::chrono_literals;

constexpr auto grace = 250ms;  // for sessions to end by themselves
constexpr std::size_t most_troubles = 1000;

// Goes nowhere: the connection is gone. It only ends the session.
const Reply dropped{421, "4.3.0", "Dropped"};

Options complete(Options o) {
    if (o.hostname.empty()) o.hostname = "mail.test";
    return o;
}

Options everything() {
    Options o;
    o.offer.smtputf8 = o.offer.dsn = o.offer.binary_mime = true;
    return o;
}

bool refusal(const Reply& reply) { return reply.code >= 400 && reply.code < 600; }

// Whether a rule can ever have its turn: the beginning of a command as the server's listeners would spell it.
bool reachable(std::string_view beginning, const Leniency& lenient) {
    if (beginning.empty() || beginning == "." || same_text(beginning, "DATA")) return true;
    const std::string bracket = lenient.missing_brackets ? "" : "<";
    const std::array<std::string, 6> commands{
        "EHLO ", "HELO ", "LHLO ", "AUTH ", "MAIL FROM:" + bracket, "RCPT TO:" + bracket};
    return std::ranges::any_of(commands, [&](const std::string& c) {
        return begins(beginning, c) || (beginning.size() >= 4 && begins(c, beginning));
    });
}

bool possible(std::string_view beginning, const Reply& reply) {
    if (refusal(reply)) return true;
    if (beginning.empty()) return reply.code == 220;
    if (begins(beginning, "AUTH")) return reply.code == 235;
    return reply.code >= 200 && reply.code < 300 && !begins(beginning, "DATA");
}

}  // namespace

std::optional<std::string> Mail::header(std::string_view name) const { return Message(text).header(name); }

struct MailServer::State {
    State(const Options& options, const std::string& listen)
        : server(std::vector<std::string>{listen}, complete(options)) {}

    struct Rule {
        enum class Kind { reply, drop, delay };
        Kind kind;
        std::string beginning;
        std::size_t left;  // times
        Reply reply{};
        milliseconds time{0};
    };
    struct Arrived {
        Mail mail;
        bool answered = false;
    };
    struct Session {
        explicit Session(int fd) : wire(fd) {}
        Wire wire;  // a copy of the connection's descriptor, to cut it
        std::thread thread{};
        bool over = false;
    };
    // What the rules say: nothing, a reply, or that the connection goes.
    struct Told {
        std::optional<Reply> reply{};
        bool drop = false;
    };

    Server server;
    mutable std::mutex mutex;
    mutable std::condition_variable changed;
    bool stopping = false;
    Verdict verdict;
    std::vector<Rule> rules;
    std::list<std::shared_ptr<Arrived>> taken;
    std::vector<Mail> refused;
    std::vector<std::string> troubles;
    std::list<Session> sessions;  // references stay good
    std::map<const Server::Client*, Session*> of_client;
    std::thread listener;

    void listen();
    void take(Connection);
    void serve(Connection, Session&);
    void attach();
    void add(Rule);
    // How a command is to be answered, when its time has come.
    Told told(std::string_view command);
    void cut(const Server::Client&);
    Rule* find(std::string_view command, bool delays);
    void handle(Server::Client&);
    Reply judge(const Mail&, const Recipient&, const Verdict&);
    void note(const std::string& trouble);
    std::size_t answered() const;
};

// ---- rules ----

void MailServer::State::add(Rule rule) {
    if (!reachable(rule.beginning, server.options().lenient))
        throw std::invalid_argument("MailServer: not the beginning of a command whose answer it gives: " +
                                    rule.beginning);
    if (rule.kind == Rule::Kind::reply && !possible(rule.beginning, rule.reply))
        throw std::invalid_argument("MailServer: no answer to " + rule.beginning + ": " + rule.reply.str());
    if (rule.left == 0) return;
    std::lock_guard lock(mutex);
    rules.push_back(std::move(rule));
}

// With the mutex held.
MailServer::State::Rule* MailServer::State::find(std::string_view command, bool delays) {
    Rule* best = nullptr;
    for (auto& rule : rules) {
        if ((rule.kind == Rule::Kind::delay) != delays || rule.left == 0) continue;
        const bool alone = command.empty() || rule.beginning.empty();  // the greeting
        if (alone ? command != rule.beginning : !begins(command, rule.beginning)) continue;
        if (!best || rule.beginning.size() >= best->beginning.size()) best = &rule;
    }
    if (best && best->left != always) --best->left;
    return best;
}

MailServer::State::Told MailServer::State::told(std::string_view command) {
    std::unique_lock lock(mutex);
    if (const auto* late = find(command, true)) {
        const auto end = std::chrono::steady_clock::now() + late->time;
        changed.wait_until(lock, end, [&] { return stopping; });
    }
    const auto* rule = find(command, false);
    if (!rule) return {};
    if (rule->kind == Rule::Kind::drop) return {.drop = true};
    return {.reply = rule->reply};
}

void MailServer::State::cut(const Server::Client& client) {
    std::lock_guard lock(mutex);
    const auto session = of_client.find(&client);
    if (session != of_client.end()) session->second->wire.cut();
}

void MailServer::State::attach() {
    const auto answer_to = [this](std::string_view command, const Server::Client& client, Reply& reply) {
        const auto what = told(command);
        if (what.reply) reply = *what.reply;
        if (!what.drop) return;
        cut(client);
        throw Hangup(dropped);
    };
    server.on<Event::Connect>([=](Event::Connect& e) { answer_to("", e.client, e.reply); });
    server.on<Event::Helo>([=](Event::Helo& e) {
        // HELO has nothing on offer; only options that offer nothing either make EHLO look like it.
        const auto& x = e.offer;
        const bool any = x.pipelining || x.size || x.eight_bit_mime || x.chunking || x.enhanced_status_codes ||
                         x.smtputf8 || x.dsn || x.binary_mime;
        const auto* verb = e.client.options().protocol == Protocol::lmtp ? "LHLO " : any ? "EHLO " : "HELO ";
        answer_to(verb + e.helo, e.client, e.reply);
    });
    server.on<Event::Auth>([=](Event::Auth& e) { answer_to("AUTH " + std::string(e.mechanism), e.client, e.reply); });
    server.on<Event::Mail>([=](Event::Mail& e) { answer_to("MAIL FROM:" + e.sender.raw, e.client, e.reply); });
    server.on<Event::Rcpt>([=](Event::Rcpt& e) { answer_to("RCPT TO:" + e.recipient.raw, e.client, e.reply); });
    server.on<Event::Data>([=](Event::Data& e) { answer_to("DATA", e.client, e.reply); });
    server.on<Event::Trouble>([this](Event::Trouble& e) { note(e.what); });
}

void MailServer::State::note(const std::string& trouble) {
    std::lock_guard lock(mutex);
    if (troubles.size() < most_troubles) troubles.push_back(trouble);
}

// ---- mails ----

Reply MailServer::State::judge(const Mail& mail, const Recipient& recipient, const Verdict& how) {
    Reply reply{250, "2.0.0", "OK"};
    if (!how) return reply;
    try {
        reply = how(mail, recipient);
        if (refusal(reply) || (reply.code >= 200 && reply.code < 300)) return reply;
        note("the verdict is no answer to a mail: " + reply.str());
    } catch (const Reject& r) {
        return r.reply();
    } catch (const std::exception& e) {
        note(e.what());
    } catch (...) {
        note("the verdict threw an exception of an unknown type");
    }
    return {451, "4.3.0", "Local error in processing"};
}

void MailServer::State::handle(Server::Client& client) {
    const auto& trace = client.MSG.trace();
    const Mail mail{client.FROM,   client.TO,      std::string(client.MSG.view()),
                    client.helo(), trace.protocol, client.peer(),
                    Reply(),       trace.user,     trace.cipher};
    const auto what = told(".");
    if (what.drop) {
        {
            std::lock_guard lock(mutex);
            refused.push_back(mail);
            refused.back().reply = {0, "", ""};
        }
        cut(client);
        client.reject(dropped);
        return;
    }
    Verdict how;
    {
        std::lock_guard lock(mutex);
        how = verdict;
    }
    for (const auto& recipient : mail.to) {
        const auto reply = what.reply ? *what.reply : judge(mail, recipient, how);
        if (refusal(reply)) client.reject(recipient, reply);
        else client.accept(recipient, reply);
    }

    // Who is told the same is in one list; by SMTP all are told the same.
    const bool one_by_one = client.options().protocol == Protocol::lmtp;
    const auto& custody = client.MSG.custody();
    auto arrived = std::make_shared<Arrived>(Arrived{mail});
    Mail not_taken = mail;
    arrived->mail.to.clear();
    not_taken.to.clear();
    for (const auto& recipient : mail.to) {
        const auto reply = one_by_one ? custody.verdict(recipient) : custody.verdict();
        auto& list = reply.positive() ? arrived->mail : not_taken;
        if (list.to.empty()) list.reply = reply;
        list.to.push_back(recipient);
    }
    {
        std::lock_guard lock(mutex);
        if (!arrived->mail.to.empty()) taken.push_back(arrived);
        if (!not_taken.to.empty()) refused.push_back(not_taken);
    }
    client.answer();
    std::lock_guard lock(mutex);
    arrived->answered = true;
    changed.notify_all();
}

std::size_t MailServer::State::answered() const {
    return std::size_t(std::ranges::count_if(taken, [](const auto& a) { return a->answered; }));
}

// ---- connections ----

void MailServer::State::serve(Connection connection, Session& session) {
    try {
        Server::Client client(std::move(connection));
        {
            std::lock_guard lock(mutex);
            of_client[&client] = &session;
        }
        try {
            while (client.process()) handle(client);
        } catch (const std::exception& e) {
            note(e.what());
        }
        std::lock_guard lock(mutex);
        of_client.erase(&client);
    } catch (const std::exception& e) {
        note(e.what());
    }
    session.wire.close();
    std::lock_guard lock(mutex);
    session.over = true;
    changed.notify_all();
}

void MailServer::State::take(Connection connection) {
    std::list<Session> ended;
    std::unique_lock lock(mutex);
    for (auto s = sessions.begin(); s != sessions.end();) {
        const auto next = std::next(s);
        if (s->over) ended.splice(ended.end(), sessions, s);
        s = next;
    }
    auto& session = sessions.emplace_back(fcntl(connection.fd(), F_DUPFD_CLOEXEC, 0));
    try {
        if (session.wire.fd() < 0) throw std::system_error(errno, std::generic_category(), "dup");
        auto shared = std::make_shared<Connection>(std::move(connection));
        session.thread = std::thread([this, shared, &session] { serve(std::move(*shared), session); });
    } catch (const std::exception&) {
        sessions.pop_back();  // no room for it; its client will come again
    }
    lock.unlock();
    for (auto& s : ended) s.thread.join();
}

void MailServer::State::listen() {
    try {
        while (auto connection = server.accept()) take(std::move(connection));
    } catch (const std::exception& e) {
        note(e.what());
    }
}

MailServer::MailServer() : MailServer(everything()) {}

MailServer::MailServer(const Options& options, const std::string& listen)
    : state_(std::make_unique<State>(options, listen)) {
    state_->attach();
    state_->listener = std::thread([s = state_.get()] { s->listen(); });
}

MailServer::~MailServer() {
    auto& s = *state_;
    s.server.stop();
    s.listener.join();
    {
        std::unique_lock lock(s.mutex);
        s.stopping = true;
        s.changed.notify_all();
        const auto over = [&] { return std::ranges::all_of(s.sessions, &State::Session::over); };
        s.changed.wait_for(lock, grace, over);
        for (auto& session : s.sessions) session.wire.cut();
    }
    for (auto& session : s.sessions) session.thread.join();
}

std::string MailServer::address() const { return state_->server.address(); }
std::uint16_t MailServer::port() const { return state_->server.port(); }
Server& MailServer::server() { return state_->server; }

// ---- what came ----

std::vector<Mail> MailServer::mails() const {
    std::lock_guard lock(state_->mutex);
    std::vector<Mail> all;
    for (const auto& a : state_->taken) all.push_back(a->mail);
    return all;
}

std::vector<Mail> MailServer::wait_for(std::size_t n, milliseconds within) const {
    const auto& s = *state_;
    std::unique_lock lock(s.mutex);
    if (s.changed.wait_for(lock, within, [&] { return s.answered() >= n; })) {
        lock.unlock();
        return mails();
    }
    auto what = std::to_string(s.answered()) + " of " + std::to_string(n) + " mails had come after " +
                std::to_string(within.count()) + " ms";
    for (const auto& mail : s.refused) what += "\nrefused: <" + mail.from.str() + ">: " + mail.reply.str();
    for (const auto& trouble : s.troubles) what += "\ntrouble: " + trouble;
    throw Failure(what);
}

std::vector<Mail> MailServer::refused() const {
    std::lock_guard lock(state_->mutex);
    return state_->refused;
}

std::vector<std::string> MailServer::troubles() const {
    std::lock_guard lock(state_->mutex);
    return state_->troubles;
}

void MailServer::clear() {
    std::lock_guard lock(state_->mutex);
    state_->taken.clear();
    state_->refused.clear();
    state_->troubles.clear();
}

// ---- how it answers ----

void MailServer::verdict(Verdict how) {
    std::lock_guard lock(state_->mutex);
    state_->verdict = std::move(how);
}

void MailServer::reply_to(std::string_view beginning, const Reply& reply, std::size_t times) {
    state_->add({State::Rule::Kind::reply, std::string(beginning), times, reply});
}

void MailServer::drop(std::string_view beginning, std::size_t times) {
    state_->add({State::Rule::Kind::drop, std::string(beginning), times});
}

void MailServer::delay(std::string_view beginning, milliseconds time, std::size_t times) {
    state_->add({State::Rule::Kind::delay, std::string(beginning), times, {}, time});
}

void MailServer::be_polite() {
    std::lock_guard lock(state_->mutex);
    state_->verdict = nullptr;
    state_->rules.clear();
}

}  // namespace Net::SMTP::Test
