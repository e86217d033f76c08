#include "Watch.hpp"

#include <optional>
#include <utility>

#include "../Client.hpp"
#include "../Command.hpp"
#include "../Event.hpp"
#include "PerSession.hpp"

namespace Net::SMTP {

namespace {

using Mail = Watch::Mail;

// A session as far as it has come.
struct Course {
    Watch::Session session{};
    std::optional<Mail> mail{};
    bool told = false;           // of this mail, and nothing new has come of it since
    bool body = false;           // its text may come, or comes
    Verb asked = Verb::unknown;  // the command that has not been answered yet
    bool understood = false;     // it was a MAIL or RCPT, and well-formed
    bool begun = false;
};

}  // namespace

struct Watch::State {
    Heard heard;
    PerSession<Course> courses{};

    Course& of(const Server::Client&);
    void end(Course&, Mail::End, const Reply& verdict = {0, "", ""});
    // In the place of one that nobody has told the end of.
    static Mail& begin(Course&);
    void tls(Event::TLS&);
    void command(Event::Command&);
    void mail(Event::Mail&);
    void data(Event::Data&);
    void arrived(Event::Arrived&);
    void answered(Event::Answered&);
    void response(Event::Response&);
    void disconnect(Event::Disconnect&);
};

Course& Watch::State::of(const Server::Client& client) {
    auto& course = courses[client];
    if (std::exchange(course.begun, true)) return course;
    auto& s = course.session;
    const auto& o = client.options();
    s.server = o.name.empty() ? o.hostname : o.name;
    s.id = client.id();
    s.peer = client.peer().str();
    s.began = Clock::now();
    return course;
}

Mail& Watch::State::begin(Course& course) {
    course.told = course.body = false;
    auto& mail = course.mail.emplace();
    mail.began = Clock::now();
    return mail;
}

void Watch::State::end(Course& course, Mail::End how, const Reply& verdict) {
    auto mail = std::exchange(course.mail, std::nullopt);
    course.body = false;
    if (std::exchange(course.told, false) || !mail) return;
    mail->end = how;
    mail->verdict = verdict;
    mail->ended = Clock::now();
    auto& s = course.session;
    if (mail->taken > 0) ++s.mails;
    else if (verdict.code != 0) ++s.refused;
    s.bytes += mail->size;
    if (heard.mail) heard.mail(s, *mail);
}

void Watch::State::tls(Event::TLS& e) {
    auto& s = of(e.client).session;
    s.tls_problem = e.problem;
    if (const auto* tls = e.client.tls(); tls && e.problem.empty()) {
        s.tls_version = tls->version;
        s.tls_cipher = tls->cipher;
    }
}

void Watch::State::command(Event::Command& e) {
    auto& course = of(e.client);
    ++course.session.commands;
    course.asked = Command::parse(e.line).verb;
    course.understood = false;
    course.session.helo = e.client.helo();  // a log of one of its mails may want them now
    course.session.user = e.client.user();
}

void Watch::State::mail(Event::Mail& e) {
    auto& course = of(e.client);
    auto& m = begin(course);
    m.from = e.sender.str();
    course.understood = true;
}

void Watch::State::data(Event::Data& e) {
    auto& course = of(e.client);
    if (!course.mail) begin(course).from = e.client.FROM.str();
    course.body = true;
    course.told = false;
}

void Watch::State::arrived(Event::Arrived& e) {
    auto& course = of(e.client);
    if (!course.mail) begin(course);
    auto& m = *course.mail;
    m.from = e.client.FROM.str();
    m.recipients = e.client.TO.size();
    m.arrived = Clock::now();
}

void Watch::State::answered(Event::Answered& e) {
    auto& course = of(e.client);
    if (!course.mail) begin(course);
    auto& m = *course.mail;
    m.id = e.message.id();
    m.size = e.message.size();
    m.answers = e.verdicts.size();
    auto worst = e.verdicts.front();
    for (const auto& v : e.verdicts) {
        m.taken += v.positive();
        worst = Reply(worse(worst, v));
    }
    course.asked = Verb::unknown;
    end(course, Mail::End::answered, worst);
}

// A reply is of the last command, or after 354 of the text. Of a refused one the transaction may go on (DATA), or some
// of the text is still to come (BDAT).
void Watch::State::response(Event::Response& e) {
    auto& course = of(e.client);
    const auto asked = e.reply.code == 354 ? course.asked : std::exchange(course.asked, Verb::unknown);
    const bool understood = std::exchange(course.understood, false);
    if (!course.mail) return;
    const bool refusal = e.reply.code >= 400, gone = e.client.FROM.unset();
    if (asked == Verb::MAIL && understood) {
        if (refusal) end(course, Mail::End::refused, e.reply);
    } else if (asked == Verb::RCPT) {
        if (refusal) ++course.mail->refused;
        else if (understood) ++course.mail->recipients;
    } else if (refusal && course.body && (asked == Verb::DATA || asked == Verb::BDAT)) {
        auto open = gone ? std::nullopt : course.mail;
        end(course, Mail::End::refused, e.reply);
        course.told = bool(open);
        course.mail = std::move(open);
    } else if (gone) {
        end(course, Mail::End::dropped);
    }
}

void Watch::State::disconnect(Event::Disconnect& e) {
    of(e.client);
    auto course = std::move(courses[e.client]);
    courses.end(e.client);
    auto& s = course.session;
    s.helo = e.client.helo();
    s.user = e.client.user();
    s.last = e.last;
    end(course, e.last.code == 221 ? Mail::End::dropped : Mail::End::lost);
    s.ended = Clock::now();
    if (heard.session) heard.session(s);
}

// ---- for everybody ----

Watch::Watch(Heard heard) : state_(std::make_shared<State>()) { state_->heard = std::move(heard); }

std::vector<Pipeline::Listener> Watch::listen(Pipeline& pipeline) const {
    const auto s = state_;
    return {
        pipeline.on<Event::Connect>([s](Event::Connect& e) { s->of(e.client); }),
        pipeline.on<Event::TLS>([s](Event::TLS& e) { s->tls(e); }),
        pipeline.on<Event::Command>([s](Event::Command& e) { s->command(e); }),
        pipeline.on<Event::Mail>([s](Event::Mail& e) { s->mail(e); }),
        pipeline.on<Event::Rcpt>([s](Event::Rcpt& e) { s->of(e.client).understood = true; }),
        pipeline.on<Event::Data>([s](Event::Data& e) { s->data(e); }),
        pipeline.on<Event::Arrived>([s](Event::Arrived& e) { s->arrived(e); }),
        pipeline.on<Event::Answered>([s](Event::Answered& e) { s->answered(e); }),
        pipeline.on<Event::Response>([s](Event::Response& e) { s->response(e); }),
        pipeline.on<Event::Disconnect>([s](Event::Disconnect& e) { s->disconnect(e); }),
    };
}

std::size_t Watch::sessions() const { return state_->courses.size(); }

std::string Watch::Session::why() const {
    if (last.code == 0) return tls_problem.empty() ? "lost" : "tls";
    if (last.code == 221) return "quit";
    if (last.code != 421) return "refused";
    if (last.status == "4.4.2") return "timeout";
    if (last.status == "4.3.2") return "shutdown";
    return last.status == "4.7.0" ? "limit" : "error";
}

const char* name(Mail::End end) {
    switch (end) {
        case Mail::End::answered: return "answered";
        case Mail::End::refused: return "refused";
        case Mail::End::dropped: return "dropped";
        case Mail::End::lost: break;
    }
    return "lost";
}

}  // namespace Net::SMTP
