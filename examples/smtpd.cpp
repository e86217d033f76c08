// smtpd -- a mail server to run: takes mail, keeps it in a durable queue and delivers it; doc/DAEMON.md is its manual.
#include <Poco/Util/ServerApplication.h>
#include <fcntl.h>
#include <unistd.h>

#include <Net/SMTP/Server.hpp>
#include <csignal>
#include <cstdio>
#include <thread>

#include "smtpd/command.hpp"
#include "smtpd/command_line.hpp"
#include "smtpd/orders.hpp"
#include "smtpd/service.hpp"
#include "smtpd/signals.hpp"

namespace {

void help() {
    std::puts(
        "Takes mail, keeps it in a durable queue and delivers it.\n\n"
        "usage: smtpd [--config FILE] [--OPTION VALUE]... [--check]\n\n"
        "FILE holds options too: OPTION = VALUE in each line, or JSON (.json), or XML (.xml).\n"
        "What is on the command line wins. --check says whether all of it can be used, and ends.\n");
    for (const auto& option : option_table()) {
        std::printf("  %s = %s\n      %s", option.name, option.valid, option.what);
        std::printf(*option.otherwise ? " (default: %s)\n" : "\n", option.otherwise);
    }
}

// Everything but the queue and the listeners. BadConfig.
void check(const Settings& given) {
    const auto resolver = make_resolver(given);
    const auto routing = std::make_shared<const Routing>(given, own_hostname(given), resolver, Net::SMTP::Overhear());
    policies(given, resolver, routing, true);
    schedule_of(given);
    Net::SMTP::Options options;
    if (const auto certificates = read_certificates(given)) options.tls = certificates;
    if (const auto accounts = read_accounts(given)) options.auth = std::make_shared<Net::SMTP::Sasl>(accounts);
    secure(options, given);
    const auto log = given.text("log");
    if (given.flag("daemon") && (log == "stderr" || given.text("transcript") == "stderr"))
        given.refuse("daemon", "it has no stderr for log and transcript in the background");
}

// So that no file of ours is taken for them: where one of the three is closed it is made to lead nowhere.
void fill_standard_descriptors() {
    int fd = -1;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= 2);
    if (fd > 2) close(fd);
}

class Smtpd : public Poco::Util::ServerApplication {
public:
    Smtpd(CommandLine line, Settings given) : line_(std::move(line)), given_(std::move(given)) {
        // Poco has put handlers there that only abort.
        for (int number : {SIGILL, SIGBUS, SIGSEGV, SIGSYS}) std::signal(number, SIG_DFL);
    }
    // What Poco itself does about daemons and pid files.
    std::vector<std::string> arguments() const {
        std::vector<std::string> all{"smtpd"};
        if (given_.flag("daemon")) all.emplace_back("--daemon");
        if (const auto file = given_.text("pid_file"); !file.empty()) all.push_back("--pidfile=" + file);
        return all;
    }

protected:
    int main(const std::vector<std::string>&) override try {
        Orders orders;
        const Signals signals([&] { orders.end(); }, [&] { orders.again(); });
        Service service(line_, given_);
        orders.on_end([&] { service.stop(); });
        std::thread keeper([&] {
            while (orders.wait_for_again()) service.reload();
            service.stop_queue();
        });
        int status = EXIT_OK;
        try {
            service.run();
        } catch (const std::exception& e) {
            status = failed(e, 1);
        }
        orders.end();
        keeper.join();
        return status;
    } catch (const BadConfig& e) {
        return failed(e, 2);
    } catch (const std::exception& e) {
        return failed(e, 1);
    }

private:
    static int failed(const std::exception& e, int status) {
        std::fprintf(stderr, "smtpd: %s\n", e.what());
        return status;
    }
    const CommandLine line_;
    const Settings given_;
};

}  // namespace

int main(int argc, char** argv) try {
    fill_standard_descriptors();
    Command::become({argv, static_cast<std::size_t>(argc)});
    Command::take_all_descriptors();
    Signals::block();
    const CommandLine line(argc, argv);
    if (line.help) return help(), 0;
    if (!line.words.empty()) throw BadConfig(line.words.front() + ": there is no such argument; see --help");
    const Settings given(line.options, line.config);
    if (line.check || given.flag("daemon")) check(given);
    if (line.check) return 0;
    Smtpd daemon(line, given);
    auto arguments = daemon.arguments();
    std::vector<char*> pointers;
    for (auto& argument : arguments) pointers.push_back(argument.data());
    return daemon.run(static_cast<int>(pointers.size()), pointers.data());
} catch (const std::exception& e) {
    std::fprintf(stderr, "smtpd: %s\n", e.what());
    return 2;
}
