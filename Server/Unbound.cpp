#include "Unbound.hpp"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unbound.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "Content.hpp"

namespace Net::SMTP {

namespace {

constexpr int class_in = 1;
constexpr std::chrono::seconds probe_time{3};

// Signals are the program's matter, and SIGPIPE must not come of a name server that hangs up: libunbound's thread
// inherits this from ours.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};

// libevent, under libunbound, ends the process when it gets none for a new context. Another thread may take them
// meanwhile, but then the program was about to have none anyway.
void must_have_descriptors() {
    std::array<Descriptor, 24> spare;  // a context takes eight or so, each question under way one
    for (auto& one : spare) {
        one.reset(eventfd(0, EFD_CLOEXEC));
        if (!one) throw std::system_error(errno, std::generic_category(), "libunbound");
    }
}

// RFC 1035 4.1.1, RFC 2136 2.2
std::string response_code(int code) {
    switch (code) {
        case 1: return "FORMERR";
        case 2: return "SERVFAIL";
        case 4: return "NOTIMP";
        case 5: return "REFUSED";
        default: return "response code " + std::to_string(code);
    }
}

// Never for want of memory: the thread has nobody to throw at, and "out of memory" takes none.
Records failed(const char* why) noexcept try {
    return {Records::Status::failed, {}, false, why};
} catch (const std::bad_alloc&) {
    return {Records::Status::failed, {}, false, "out of memory"};
}

Records records(const ub_result& result) {
    using Status = Records::Status;
    const bool secure = result.secure != 0;
    if (result.bogus)
        return failed((std::string("bogus: ") + (result.why_bogus ? result.why_bogus : "wrong signatures")).c_str());
    if (result.nxdomain) return {Status::no_domain, {}, secure, "no such domain"};
    if (result.rcode != 0) return failed(response_code(result.rcode).c_str());
    if (!result.havedata) return {Status::no_data, {}, secure, "no such record"};
    Records out{Status::found, {}, secure, "", result.canonname ? result.canonname : ""};
    if (out.canonical.ends_with('.')) out.canonical.pop_back();
    for (int i = 0; result.data[i]; ++i) out.data.emplace_back(result.data[i], std::size_t(result.len[i]));
    return out;
}

}  // namespace

struct Unbound::Question {
    Question(const std::string& asked_name, RecordType asked_type) : name(asked_name), type(asked_type) {}
    const std::string name;
    const RecordType type;
    // With the lock held:
    Records answer{};
    bool answered = false, over = false;
    std::condition_variable changed{};
};

// A question libunbound has; its place in memory is what libunbound knows of us.
struct Unbound::Asked {
    Unbound* self;
    std::shared_ptr<Question> question;
    int id = 0;
    std::list<Asked>::iterator place{};
};

Unbound::Context Unbound::context(const Configuration& how) {
    must_have_descriptors();
    Context made(ub_ctx_create(), ub_ctx_delete);
    if (!made) throw std::runtime_error("libunbound: " + std::generic_category().message(errno));
    const auto must = [](int error, const std::string& what) {
        if (error != 0) throw std::runtime_error("libunbound: " + what + ": " + ub_strerror(error));
    };
    const auto set = [&](const char* option, const char* value) {
        must(ub_ctx_set_option(made.get(), option, value), option);
    };
    // A library has no say in what goes to stderr.
    must(ub_ctx_debugout(made.get(), nullptr), "log");
    must(ub_ctx_async(made.get(), 1), "threads");
    set("do-not-query-localhost:", "no");
    set("unblock-lan-zones:", "yes");
    // Its 16 sockets for all that is under way would let a few slow names hold up everybody.
    set("outgoing-range:", "256");
    set("outgoing-num-tcp:", "16");
    // Who was down for minutes is asked again every 15 s, not forgotten for 15 minutes. It must be over 12000, which is
    // libunbound's own limit, or it does not look again at all.
    set("infra-keep-probing:", "yes");
    set("infra-cache-max-rtt:", "15000");
    if (how.trust_anchor.empty()) set("module-config:", "iterator");
    else must(ub_ctx_add_ta_file(made.get(), how.trust_anchor.c_str()), how.trust_anchor);
    for (const auto& server : how.servers) must(ub_ctx_set_fwd(made.get(), server.c_str()), server);
    // Nothing can be set after this. RFC 6761 6.2, RFC 8375 4: these are names like any.
    for (const auto* zone : {"test.", "home.arpa."})
        must(ub_ctx_zone_remove(made.get(), zone), how.trust_anchor.empty() ? zone : how.trust_anchor);
    return made;
}

Unbound::Unbound(const Configuration& how, const Unbound* inherited)
    : owner(getpid()), how_(how), inherited_(inherited) {}

Unbound::~Unbound() {
    if (thread_.joinable()) {
        {
            std::lock_guard lock(mutex_);
            ending_ = true;
        }
        wake();
        thread_.join();
    }
    if (wake_ >= 0) close(wake_);
}

// With the lock held.
void Unbound::start() {
    if (thread_.joinable()) return;
    if (wake_ < 0) wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
    const SignalsBlocked blocked;
    thread_ = std::thread([this] { pump(); });
}

void Unbound::wake() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto n = write(wake_, &one, sizeof one);
}

Records Unbound::ask(const std::string& name, RecordType type, const Wait& wait) {
    const auto question = std::make_shared<Question>(name, type);
    {
        std::lock_guard lock(mutex_);
        try {
            start();
        } catch (const std::system_error& e) {
            return failed(e.what());
        }
        fresh_.push_back(question);
    }
    wake();

    // Whichever way we leave, nobody needs the answer any more.
    struct Leaving {
        Unbound& self;
        Question& question;
        ~Leaving() {
            {
                std::lock_guard lock(self.mutex_);
                if (question.answered) return;
                question.over = self.some_over_ = true;
            }
            self.wake();
        }
    } const leaving{*this, *question};

    for (;;) {
        const bool over = wait.over();  // the caller's code, so without the lock
        const auto look = std::min(wait.look(), std::chrono::steady_clock::now() + std::chrono::hours(1));
        std::unique_lock lock(mutex_);
        if (question->answered) return std::move(question->answer);
        if (over) return {Records::Status::timeout, {}, false, "no answer in time"};
        question->changed.wait_until(lock, look);
    }
}

// ---- the thread ----

void Unbound::pump() {
    Context context(nullptr, ub_ctx_delete);
    for (;;) {
        std::vector<std::shared_ptr<Question>> fresh;
        bool some_over = false;
        {
            std::lock_guard lock(mutex_);
            // Who does not hear us does not hear either that it is to end.
            if (ending_ && !(context && silent_)) break;
            fresh.swap(fresh_);
            some_over = std::exchange(some_over_, false);
        }
        for (const auto& question : fresh)
            if (!put(context, question)) lose_context(context, "libunbound does not take questions");
        if (some_over) drop_the_over(context);
        if (silent_) probe(context);

        pollfd fds[2] = {{wake_, POLLIN, 0}, {context ? ub_fd(context.get()) : -1, POLLIN, 0}};
        if (poll(fds, 2, probe_ ? milliseconds_until(probe_end_) : -1) < 0 && errno != EINTR)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));  // a lack of memory, which may last
        std::uint64_t count;
        [[maybe_unused]] const auto n = read(wake_, &count, sizeof count);
        if (fds[1].revents != 0 && ub_process(context.get()) != 0)
            lose_context(context, "libunbound's thread has ended");
        look_after_probe(context);
    }
    context.reset();  // calls nobody back
    asked_.clear();
}

// False when the context is of no use any more.
bool Unbound::put(Context& context, const std::shared_ptr<Question>& question) try {
    if (!context) context = Unbound::context(how_);
    auto& asked = asked_.emplace_back(Asked{this, question});
    asked.place = std::prev(asked_.end());
    const int error = ub_resolve_async(context.get(), question->name.c_str(), static_cast<int>(question->type),
                                       class_in, &asked, answered, &asked.id);
    if (error == 0) return true;
    asked_.erase(asked.place);
    answer(*question, failed(ub_strerror(error)));
    return error != UB_PIPE;
} catch (const std::exception& e) {
    answer(*question, failed(e.what()));
    return true;
}

void Unbound::drop_the_over(Context& context) {
    for (auto asked = asked_.begin(); asked != asked_.end();) {
        const auto here = asked++;
        {
            std::lock_guard lock(mutex_);
            if (!here->question->over) continue;
        }
        ub_cancel(context.get(), here->id);  // it calls nobody back then, and frees what it had for us
        asked_.erase(here);
        silent_ = true;
    }
}

// After a lack of memory libunbound's thread may take our octets for something else than we mean, for ever. It is asked
// what it knows without asking anybody.
void Unbound::probe(Context& context) {
    if (probe_ || !context) return;
    try {
        probe_ = std::make_shared<Question>("localhost", RecordType::A);
    } catch (const std::bad_alloc&) {
        return lose_context(context, "out of memory");
    }
    probe_end_ = std::chrono::steady_clock::now() + probe_time;
    overdue_ = false;
    if (!put(context, probe_)) lose_context(context, "libunbound does not take questions");
}

void Unbound::look_after_probe(Context& context) {
    if (!probe_) return;
    if (probe_->answered) return probe_.reset();
    const auto now = std::chrono::steady_clock::now();
    if (now < probe_end_) return;
    probe_end_ = now + probe_time;  // we may have been frozen, and it with us
    if (std::exchange(overdue_, true)) lose_context(context, "libunbound does not answer");
}

// To end it is to wait for its thread, perhaps for ever: nobody does.
void Unbound::lose_context(Context& context, const char* why) {
    if (auto* const lost = context.release()) try {
            std::thread([lost] { ub_ctx_delete(lost); }).detach();  // calls nobody back
        } catch (const std::exception&) {
            // it is left behind
        }
    silent_ = false;
    for (auto& asked : asked_) answer(*asked.question, failed(why));
    asked_.clear();
}

void Unbound::answered(void* argument, int error, ub_result* result) {
    const std::unique_ptr<ub_result, void (*)(ub_result*)> owner(result, ub_resolve_free);
    const auto place = static_cast<Asked*>(argument)->place;
    auto& self = *place->self;
    const auto question = place->question;
    self.asked_.erase(place);
    self.silent_ = false;
    try {
        self.answer(*question, error == 0 ? records(*result) : failed(ub_strerror(error)));
    } catch (const std::bad_alloc&) {
        self.answer(*question, failed("out of memory"));
    }
}

void Unbound::answer(Question& question, Records&& records) {
    std::lock_guard lock(mutex_);
    question.answer = std::move(records);
    question.answered = true;
    question.changed.notify_one();
}

}  // namespace Net::SMTP
