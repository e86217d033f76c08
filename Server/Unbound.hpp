// Unbound -- a context of libunbound, and the one thread that uses it; for our own .cpp files only, it is not
// installed.
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "Resolver.hpp"

struct ub_ctx;
struct ub_result;

namespace Net::SMTP {

// Belongs to the process that made it. A copy that a fork left in a child must not be touched, nor destroyed: its
// thread is not there, and its mutex may be locked for ever. Who asks never enters libunbound, whose calls have no
// deadline: he hands his question over and waits for the answer.
class Unbound {
public:
    struct Configuration {
        std::vector<std::string> servers{};  // "192.0.2.1@53"
        std::string trust_anchor{};
    };
    // A context that is ready to be asked. std::runtime_error says what libunbound does not take.
    using Context = std::unique_ptr<ub_ctx, void (*)(ub_ctx*)>;
    static Context context(const Configuration&);

    // Starts nothing. `inherited` is what a parent process left here, kept only so that it stays reachable.
    Unbound(const Configuration& how, const Unbound* inherited);
    // Ends the thread, whatever libunbound is still busy with. Nobody may be asking.
    ~Unbound();
    Unbound(const Unbound&) = delete;
    Unbound& operator=(const Unbound&) = delete;

    // `name` as domain_name() gives it. Throws std::bad_alloc, and what wait.off() throws.
    Records ask(const std::string& name, RecordType type, const Wait& wait);

    const pid_t owner;

private:
    struct Question;
    struct Asked;
    void start();  // std::system_error
    void wake();
    // The thread's:
    void pump();
    bool put(Context&, const std::shared_ptr<Question>&);
    void drop_the_over(Context&);
    void probe(Context&);
    void look_after_probe(Context&);
    void lose_context(Context&, const char* why);
    void answer(Question&, Records&&);
    static void answered(void* asked, int error, ub_result* result);

    const Configuration& how_;
    [[maybe_unused]] const Unbound* const inherited_;
    std::mutex mutex_;
    std::vector<std::shared_ptr<Question>> fresh_;  // what the thread does not know yet
    bool some_over_ = false;                        // somebody has given up
    bool ending_ = false;
    int wake_ = -1;  // an eventfd
    // The thread's alone:
    std::list<Asked> asked_;           // what libunbound is busy with
    bool silent_ = false;              // a question was given up, and nothing was answered since
    std::shared_ptr<Question> probe_;  // that tells whether it still hears us
    Deadline probe_end_{};
    bool overdue_ = false;
    std::thread thread_;
};

}  // namespace Net::SMTP
